"""One line for each thing that an operator should know."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from streamd.observe.logs import OneLineHandler, configure, mask
from streamd.observe.settings import LogSettings

EPOCH_SECONDS = 1795305600.123


class Logged:
    """Logs into memory, with a clock that stands still until it is told to move."""

    def __init__(
        self,
        format: Literal["auto", "json", "console"] = "json",
        level: Literal["debug", "info", "warning", "error"] = "info",
        stream: io.StringIO | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.stream = io.StringIO() if stream is None else stream
        self.now = EPOCH_SECONDS
        settings = LogSettings(format=format, level=level)
        self.handler = configure(settings, stream=self.stream, clock=lambda: self.now, secrets=secrets)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    before = root.level
    yield
    for handler in [h for h in root.handlers if isinstance(h, OneLineHandler)]:
        root.removeHandler(handler)
    root.setLevel(before)
    for name in ("kafka", "uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_workers_number_is_in_every_line_whoever_wrote_it() -> None:
    stream = io.StringIO()
    configure(LogSettings(format="json"), stream=stream, worker=1)
    structlog.get_logger("streamd.pump").info("partitions assigned")
    logging.getLogger("kafka.client").warning("no broker")
    assert [json.loads(line)["worker"] for line in stream.getvalue().splitlines()] == [1, 1]


def test_a_line_is_json_with_time_level_logger_event_and_values() -> None:
    logged = Logged()
    structlog.get_logger("streamd.pump").info("partitions assigned", partitions=["t/0", "t/1"])
    assert logged.events == [
        {
            "timestamp": "2026-11-22T00:00:00.123Z",
            "level": "info",
            "logger": "streamd.pump",
            "event": "partitions assigned",
            "partitions": ["t/0", "t/1"],
        }
    ]


def test_the_standard_librarys_loggers_write_the_same_lines() -> None:
    logged = Logged()
    logging.getLogger("kafka.coordinator").warning("Heartbeat failed for group %s", "watchers")
    assert logged.events == [
        {
            "timestamp": "2026-11-22T00:00:00.123Z",
            "level": "warning",
            "logger": "kafka.coordinator",
            "event": "Heartbeat failed for group watchers",
        }
    ]


def test_auto_is_console_in_a_terminal_and_json_elsewhere() -> None:
    file, terminal = Logged("auto"), None
    structlog.get_logger("a").info("hello")
    assert file.lines[0].startswith("{")
    terminal = Logged("auto", stream=Terminal())
    structlog.get_logger("a").info("hello")
    assert "\x1b[" in terminal.lines[0]
    assert not terminal.lines[0].startswith("{")


def test_console_into_a_file_has_no_colours() -> None:
    logged = Logged("console")
    structlog.get_logger("a").info("hello", stream="fraud/7")
    assert "\x1b" not in logged.stream.getvalue()
    assert "stream=fraud/7" in logged.lines[0]


def test_lines_below_the_level_are_not_written() -> None:
    logged = Logged(level="warning")
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    structlog.get_logger("a").warning("loud")
    assert [event["event"] for event in logged.events] == ["loud"]


def test_a_library_is_heard_from_warning_on_unless_debug_is_asked_for() -> None:
    logged = Logged(level="info")
    logging.getLogger("kafka.conn").info("connecting")
    assert logged.lines == []
    logged = Logged(level="debug")
    logging.getLogger("kafka.conn").info("connecting")
    assert len(logged.lines) == 1


def test_repeats_are_counted_and_told_once() -> None:
    logged = Logged()
    log = structlog.get_logger("a")
    for attempt in range(5):
        log.warning("commit failed", partition=3, attempt=attempt)
        logged.now += 1
    assert len(logged.lines) == 1
    logged.now += 60
    log.info("another thing")
    assert [(e["event"], e.get("repeated")) for e in logged.events] == [
        ("commit failed", None),
        ("commit failed", 4),
        ("another thing", None),
    ]


def test_repeats_of_the_standard_librarys_loggers_are_told_by_their_template() -> None:
    logged = Logged()
    for node in range(3):
        logging.getLogger("kafka.conn").warning("node %s does not answer", node)
    logged.handler.close()
    assert [(e["event"], e.get("repeated")) for e in logged.events] == [
        ("node 0 does not answer", None),
        ("node 0 does not answer", 2),
    ]


def test_the_same_event_about_another_thing_is_no_repeat() -> None:
    logged = Logged()
    log = structlog.get_logger("a")
    for partition in range(3):
        log.warning("commit failed", partition=partition)
    log.error("commit failed", partition=0)
    structlog.get_logger("b").warning("commit failed", partition=0)
    assert len(logged.lines) == 5


def test_after_the_window_the_same_event_is_written_again() -> None:
    logged = Logged()
    for _ in range(3):
        structlog.get_logger("a").warning("commit failed")
        logged.now += 31
    assert [e.get("repeated") for e in logged.events] == [None, None, None]


def test_the_end_of_the_process_tells_what_was_still_counted() -> None:
    logged = Logged()
    for _ in range(3):
        structlog.get_logger("a").warning("commit failed")
    logged.handler.close()
    logged.handler.close()
    assert [e.get("repeated") for e in logged.events] == [None, 2]


def test_what_is_remembered_is_bounded() -> None:
    logged = Logged()
    log = structlog.get_logger("a")
    log.info("first")
    log.info("first")
    for i in range(1100):
        log.info("stream seen", stream=f"s{i}")
    assert len(logged.handler._seen) == 1000
    assert [e["repeated"] for e in logged.events if "repeated" in e] == [1]


def test_a_clock_that_is_set_back_does_not_silence_a_line_for_good() -> None:
    logged = Logged()
    structlog.get_logger("a").warning("commit failed")
    logged.now -= 3600
    structlog.get_logger("a").warning("commit failed")
    assert len(logged.lines) == 2


def test_values_of_secret_keys_are_masked_however_deep() -> None:
    logged = Logged()
    settings = {"kafka": {"sasl_plain_password": "hunter2", "list": [{"api_key": "k"}]}, "group_id": "g"}
    structlog.get_logger("a").info("starting", config=settings, token="t0ken")
    assert "hunter2" not in logged.stream.getvalue()
    event = logged.events[0]
    assert event["token"] == "********"
    assert event["config"] == {
        "kafka": {"sasl_plain_password": "********", "list": [{"api_key": "********"}]},
        "group_id": "g",
    }


@pytest.mark.parametrize("text", ["password=hunter2 rest", "{'sasl_plain_password': 'hunter2'}", 'secret: "hunter2"'])
def test_a_secret_inside_a_text_is_masked(text: str) -> None:
    logged = Logged("console")
    logging.getLogger("kafka").warning("connecting with %s", text)
    assert "hunter2" not in logged.stream.getvalue()
    assert "********" in logged.stream.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_known_secret_never_appears_wherever_it_stands(format: Literal["json", "console"]) -> None:
    secret = 'pa"ss\nword'
    logged = Logged(format, secrets=(secret, "hunter2"))
    log = structlog.get_logger("a")
    log.error("refused: hunter2", cause=f"bad credentials {secret}", both=[secret])
    try:
        raise ValueError("with hunter2")
    except ValueError:
        log.exception("failed")
    written = logged.stream.getvalue()
    assert "hunter2" not in written
    assert secret not in written
    assert 'pa\\"ss' not in written


def test_an_exception_is_one_json_line_that_says_where() -> None:
    logged = Logged()
    try:
        raise RuntimeError("broken\ninvariant")
    except RuntimeError:
        structlog.get_logger("a").exception("stopping")
    assert len(logged.lines) == 1
    assert "test_logs.py" in logged.events[0]["exception"]
    assert logged.events[0]["exception"].endswith("RuntimeError: broken\ninvariant")


def test_an_exception_of_the_standard_librarys_loggers_is_told_once() -> None:
    logged = Logged()
    for _ in range(2):
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            logging.getLogger("kafka").exception("failed")
    logged.handler.close()
    assert ["exception" in event for event in logged.events] == [True, False]


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_name_with_line_breaks_cannot_forge_a_line(format: Literal["json", "console"]) -> None:
    logged = Logged(format)
    structlog.get_logger("a").info("seen", stream='x\n{"event": "forged"}\x1b[2J\u2028')
    structlog.get_logger("a").info("seen\nforged")
    assert len(logged.lines) == 2
    assert "\x1b[2J" not in logged.stream.getvalue()


def test_a_value_that_json_does_not_know_does_not_lose_the_line() -> None:
    logged = Logged()
    structlog.get_logger("a").info("odd", value={1}, raw=b"\xff", nothing=None)
    assert logged.events[0]["value"] == "{1}"


def test_configuring_twice_writes_each_line_once() -> None:
    Logged()
    logged = Logged()
    structlog.get_logger("a").info("hello")
    assert len(logged.lines) == 1


def test_only_values_of_secret_keys_are_masked() -> None:
    plain = {"group_id": "a", "token_url": "https://x", "passwords_tried": 3, "keys": ["a"], "password": None}
    assert mask(plain) == plain
    assert mask({"Password": "x", "sasl.password": 5}) == {"Password": "********", "sasl.password": "********"}
