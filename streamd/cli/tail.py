"""`streamd tail`: alerts as sentences, as they fire."""

from __future__ import annotations

import datetime
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import orjson
import typer
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, load_config, quiet_client
from streamd.cli.text import clipped, printable
from streamd.config import Config
from streamd.errors import TransientError
from streamd.model import Severity
from streamd.transport.kafka_auth import build

_SEVERITIES = {severity.word: severity for severity in Severity if severity is not Severity.NONE}
_COLOURS = {"info": "cyan", "warning": "yellow", "critical": "red", "resolved": "green"}
_POLL_SECONDS = 0.25
_TOPIC_SECONDS = 10.0  # how long a topic may take to appear
_SHOWN_CHARACTERS = 200  # of a message that is not an alert


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts to show: streams by name or pattern, this grave or worse."""

    stream: str | None = None
    severity: Severity = Severity.NONE

    def matches(self, alert: dict[str, Any] | None) -> bool:
        """What is no alert has neither stream nor severity: it is shown when nothing particular is asked for."""
        if alert is None:
            return self.stream is None and self.severity is Severity.NONE
        name = str(alert["stream"])
        return (self.stream is None or name == self.stream or fnmatchcase(name, self.stream)) and (
            _SEVERITIES[alert["severity"]] >= self.severity
        )


def command(
    topic: Annotated[str | None, typer.Option(help="Else the configured topic of the alerts.")] = None,
    start: Annotated[Literal["beginning", "latest"], typer.Option("--from", help="Where to begin.")] = "latest",
    stream: Annotated[str | None, typer.Option(help="A stream's name or pattern, such as 'fraud/*'.")] = None,
    severity: Annotated[Literal["info", "warning", "critical"], typer.Option(help="This grave or worse.")] = "info",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value a line, for machines.")] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, help="End after so many.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="End after so many seconds.")] = None,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Show alerts as they fire, as sentences, until stopped."""
    quiet_client()
    wanted = Wanted(stream, _SEVERITIES[severity] if severity != "info" else Severity.NONE)
    settings = load_config(bootstrap_servers, config)
    deadline = None if timeout is None else time.monotonic() + timeout
    # A terminal gets colours and its own width; a file or a pipe one alert a line.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    shown = 0
    try:
        for value, place in messages(settings, topic or settings.topics.alerts, start, deadline):
            alert = parse(value)
            if not wanted.matches(alert):
                continue
            typer.echo(as_line(alert, value, place) if as_json else as_sentence(alert, value, place, width))
            shown += 1
            if shown == most:
                return
    except KeyboardInterrupt:
        return  # how one ends it


def messages(
    config: Config, topic: str, start: Literal["beginning", "latest"], deadline: float | None
) -> Iterator[tuple[bytes | None, str]]:
    """The committed records' values and their `topic/partition/offset`, for ever or until the deadline.

    Without a consumer group, so that nobody's place in the topic is moved. Raises TransientError without a broker
    or a topic.
    """
    consumer = build(
        KafkaConsumer,
        config.kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # of what retention has removed
        isolation_level="read_committed",
        metrics_enabled=False,
    )
    try:
        partitions = partitions_of(consumer, topic)
        consumer.assign(partitions)
        if start == "beginning":
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.seek_to_end(*partitions)
            for partition in partitions:
                consumer.position(partition)  # now, not at the first poll: what comes after this line is new
        while deadline is None or time.monotonic() < deadline:
            left = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, max(deadline - time.monotonic(), 0.0))
            for records in consumer.poll(timeout_ms=int(1000 * left)).values():
                for record in records:
                    yield record.value, f"{record.topic}/{record.partition}/{record.offset}"
    except KafkaError as error:
        raise TransientError(f"reading {topic}: {error}") from error
    finally:
        consumer.close(autocommit=False)


def partitions_of(consumer: Any, topic: str) -> list[TopicPartition]:
    """The topic's partitions, waiting a while for it to be made. Raises TransientError when it is not."""
    deadline = time.monotonic() + _TOPIC_SECONDS
    while time.monotonic() < deadline:
        numbers = consumer.partitions_for_topic(topic)
        if numbers:
            return [TopicPartition(topic, number) for number in sorted(numbers)]
        time.sleep(_POLL_SECONDS)
    raise TransientError(f"there is no topic {topic}: start `streamd run`, which makes it, or name it with --topic")


def parse(value: bytes | None) -> dict[str, Any] | None:
    """The alert, or None when it is none of ours."""
    try:
        alert = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(alert, dict):
        return None
    words = [alert.get(name) for name in ("summary", "stream", "status", "severity")]
    return alert if all(isinstance(word, str) for word in words) and words[-1] in _SEVERITIES else None


def as_line(alert: dict[str, Any] | None, value: bytes | None, place: str) -> str:
    """One line of JSON: the alert as it is, or what stands in its place."""
    if alert is None:
        alert = {"not_an_alert": _text(value), "place": place}
    return orjson.dumps(alert).decode()


def as_sentence(alert: dict[str, Any] | None, value: bytes | None, place: str, width: int | None) -> str:
    """`time severity summary`, wrapped under the summary; without a width one line and no colours."""
    if alert is None:
        return laid_out("", "not an alert", f"{place}: {_text(value)}", width)
    return laid_out(*pieces(alert), width)


def pieces(alert: dict[str, Any]) -> tuple[str, str, str]:
    """When (to the second, or nothing), how grave, and what."""
    word = "resolved" if alert["status"] == "resolved" else str(alert["severity"])
    summary = str(alert["summary"])
    if alert["stream"] not in summary:
        summary = f"{alert['stream']}: {summary}"
    action = alert.get("action")
    if action and word != "resolved" and action not in ("none", "review"):  # what a command was sent for
        summary += f" → {action}" + (" (shadow)" if alert.get("mode") == "shadow" else "")
    return _time(alert.get("event_time")), word, summary


def laid_out(when: str, word: str, summary: str, width: int | None) -> str:
    """`when word summary`, wrapped under the summary; without a width one line and no colours."""
    head = f"{when:<20}{word:<9} " if when else f"{word}  "
    if width is None:
        return head + printable(summary)
    lines = textwrap.wrap(
        printable(summary), max(width - len(head), 20), break_long_words=True, break_on_hyphens=False
    ) or [""]
    coloured = head.replace(word, typer.style(word, fg=_COLOURS.get(word), bold=word == "critical"), 1)
    return "\n".join([coloured + lines[0], *(" " * len(head) + line for line in lines[1:])])


def _time(event_time: object) -> str:
    """To the second, UTC, as it was when it happened."""
    try:
        moment = datetime.datetime.fromisoformat(str(event_time))
    except ValueError:
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _text(value: bytes | None) -> str:
    """What can be shown of any bytes."""
    return clipped(
        "null" if value is None else value[: 8 * _SHOWN_CHARACTERS].decode(errors="replace"), _SHOWN_CHARACTERS
    )
