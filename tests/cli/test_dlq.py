"""`streamd dlq`: list, show and send back what could not be used."""

from __future__ import annotations

import re
import time
import uuid
from pathlib import Path

import orjson
import pytest

from streamd.cli import letters, resending, verbs
from streamd.cli.exit_codes import ExitCode
from streamd.errors import Reason, TransientError
from streamd.model import DeadLetter, Envelope
from streamd.sinks.records import dead_letter_record
from streamd.transport.base import Outgoing
from streamd.transport.embedded import EmbeddedBroker
from streamd.transport.kafka_admin import create_topics
from streamd.transport.kafka_range import read_range
from streamd.transport.kafka_resend import Resender
from streamd.transport.settings import KafkaSettings

BINARY = bytes(range(256)) + b"\xff\xfe"
ORIGINALS = [
    (Envelope("in", 1, 10, 1_763_769_600_000, b"fraud/7", b"{nonsense", (("trace", b"abc"),)), Reason.NOT_JSON),
    (Envelope("in", 0, 4, 1_763_769_700_000, None, BINARY, ()), Reason.BAD_ARROW),
    (Envelope("in", 1, 11, 1_763_769_800_000, b"fraud/7", None, ()), Reason.EMPTY),
    (Envelope("in", 1, 12, 1_763_769_900_000, b"x/1", b'{"features": 7}', ()), Reason.BAD_SCHEMA),
]
SEND = Resender.send  # some tests put another in its place
ERROR = "the value is no JSON: unexpected character at line 1 column 2, while this is a long story \x1b[2J"


class Topics:
    """An input topic and a dead-letter topic of its own, with these records in it."""

    def __init__(self, broker: EmbeddedBroker, tmp_path: Path) -> None:
        self.settings = KafkaSettings(bootstrap_servers=(broker.bootstrap_servers,))
        name = uuid.uuid4().hex[:8]
        self.features, self.dlq = f"in-{name}", f"dlq-{name}"
        create_topics(self.settings, {self.features: 2, self.dlq: 2})
        self.config = tmp_path / "streamd.yaml"
        self.config.write_text(
            f"kafka: {{bootstrap_servers: '{broker.bootstrap_servers}'}}\n"
            f"topics: {{features: {self.features}, dlq: {self.dlq}}}\n"
        )

    def fill(self, originals: list[tuple[Envelope, Reason]] = ORIGINALS) -> None:
        records = []
        for original, reason in originals:
            topic = self.features if original.topic == "in" else original.topic
            there = Envelope(
                topic, original.partition, original.offset, original.timestamp_ms, original.key, original.value,
                original.headers,
            )  # fmt: skip
            records.append((dead_letter_record(DeadLetter(there, reason.stage, reason, ERROR), self.dlq, "1.0"), 0))
        self.send(records)

    def send(self, records: list[tuple[Outgoing, int]]) -> None:
        resender = Resender(self.settings)
        SEND(resender, records, keep_partition=True)
        resender.close()

    def arrived(self) -> list[Envelope]:
        return list(read_range(self.settings, self.features, None, None))

    def run(self, verb: str, *arguments: str) -> int:
        return verbs.run(["dlq", verb, *arguments, "--config", str(self.config)])


@pytest.fixture
def topics(embedded_broker: EmbeddedBroker, tmp_path: Path) -> Topics:
    return Topics(embedded_broker, tmp_path)


Captured = pytest.CaptureFixture[str]


@pytest.mark.broker
@pytest.mark.slow
def test_ls_shows_time_place_reason_and_error_and_counts_by_reason(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    assert topics.run("ls") == ExitCode.OK
    heading, first, *_, last = capsys.readouterr().out.splitlines()
    assert heading.split() == ["time", "(UTC)", "place", "reason", "error"]
    assert re.fullmatch(rf"2025-11-22 00:00:00  {topics.features}/1/10  not_json    the value is no JSON.*", first)
    assert "\x1b" not in first
    assert last == "4 dead letters: 1 not_json, 1 bad_arrow, 1 empty, 1 bad_schema"


@pytest.mark.broker
@pytest.mark.slow
def test_ls_filters_and_shows_the_newest_where_there_are_more(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    assert topics.run("ls", "--stage", "decode", "--max", "1") == ExitCode.OK
    _, only, last = capsys.readouterr().out.splitlines()
    assert "/1/11  empty" in only
    assert last == "the newest 1 of 3 dead letters: 1 not_json, 1 bad_arrow, 1 empty"
    assert topics.run("ls", "--reason", "empty", "--reason", "bad_schema", "--since", "2025-11-22T00:04:00Z") == 0
    assert capsys.readouterr().out.endswith("1 dead letter: 1 bad_schema\n")
    assert topics.run("ls", "--since", "1h") == ExitCode.OK
    assert capsys.readouterr().out == "no dead letter matches\n"


@pytest.mark.broker
@pytest.mark.slow
def test_ls_in_json_is_one_object_a_line(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    topics.send([(Outgoing(topics.dlq, None, b"by somebody else"), 0)])
    assert topics.run("ls", "--json", "--topic", topics.features) == ExitCode.OK
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["reason"] for line in lines] == [reason.value for _, reason in ORIGINALS]
    assert lines[0] == {
        "time": "2025-11-22T00:00:00.000Z",
        "topic": topics.features,
        "partition": 1,
        "offset": 10,
        "dlq_place": f"{topics.dlq}/0/0",
        "stage": "decode",
        "reason": "not_json",
        "error": ERROR,
        "key": "fraud/7",
        "value_bytes": 9,
        "replayed": 0,
        "version": "1.0",
    }
    assert topics.run("ls") == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 record of ")


@pytest.mark.broker
@pytest.mark.slow
def test_show_takes_the_place_of_the_original_or_of_the_dead_letter(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    shown = []
    for place in (f"{topics.features}/0/4", f"{topics.dlq}/0/1"):
        assert topics.run("show", place) == ExitCode.OK
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert "bad_arrow (while it was to be decoded)" in shown[0]
    assert "00000000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|" in shown[0]
    assert "2 bytes more: --raw writes all of it" in shown[0]
    assert "\x1b" not in shown[0]
    assert max(map(len, shown[0].splitlines())) <= 80


@pytest.mark.broker
@pytest.mark.slow
def test_show_raw_is_the_value_byte_for_byte(topics: Topics, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    topics.fill()
    assert topics.run("show", f"{topics.features}/0/4", "--raw") == ExitCode.OK
    assert capfdbinary.readouterr().out == BINARY
    assert topics.run("show", f"{topics.features}/1/11", "--raw") == ExitCode.OK
    out, err = capfdbinary.readouterr()
    assert (out, err) == (b"", b"streamd: the value is null: nothing is written\n")


@pytest.mark.broker
@pytest.mark.slow
def test_show_of_what_is_not_there_is_66(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    for place in (f"{topics.features}/0/5", f"{topics.dlq}/0/4", f"{topics.dlq}/0/99", f"{topics.dlq}/7/0"):
        assert topics.run("show", place) == ExitCode.NO_INPUT, place
        assert capsys.readouterr().err.startswith(f"streamd: {place}: there is no dead letter")


@pytest.mark.broker
@pytest.mark.slow
def test_replay_sends_the_original_back_to_its_partition_with_its_time(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    assert topics.run("replay") == ExitCode.OK
    said = capsys.readouterr().out
    assert said.startswith(
        f"4 records sent back to {topics.features} (1 not_json, 1 bad_arrow, 1 empty, 1 bad_schema) in "
    )
    arrived = {(r.partition, r.timestamp_ms, r.key, r.value, r.headers) for r in topics.arrived()}
    assert arrived == {
        (o.partition, o.timestamp_ms, o.key, o.value, (*o.headers, ("dlq.replayed", b"1"))) for o, _ in ORIGINALS
    }


@pytest.mark.broker
@pytest.mark.slow
def test_a_dry_run_says_the_same_and_sends_nothing(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    assert topics.run("replay", "--dry-run", "--reason", "not_json") == ExitCode.OK
    assert capsys.readouterr().out == f"1 record would go back to {topics.features} (1 not_json)\n"
    assert topics.arrived() == []


@pytest.mark.broker
@pytest.mark.slow
def test_replay_sends_no_record_twice_and_leaves_what_came_back(topics: Topics, capsys: Captured) -> None:
    """The same record has two dead letters, and another has failed again after a replay."""
    came_back = Envelope("in", 0, 50, 1_763_770_000_000, b"k", b"bad", (("dlq.replayed", b"1"),))
    topics.fill([*ORIGINALS[:1], *ORIGINALS[:1], (came_back, Reason.NOT_JSON)])
    assert topics.run("replay") == ExitCode.OK
    assert "; 1 came back from an earlier replay and are left (--again sends them)" in capsys.readouterr().out
    assert [r.value for r in topics.arrived()] == [b"{nonsense"]
    assert topics.run("replay", "--again", "--since", "2025-11-22T00:05:00Z") == ExitCode.OK
    assert [r.headers for r in topics.arrived() if r.value == b"bad"] == [(("dlq.replayed", b"2"),)]
    assert len(topics.arrived()) == 2


@pytest.mark.broker
@pytest.mark.slow
def test_what_fails_again_during_a_replay_is_not_sent_again_by_it(
    topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon is at work meanwhile: every record that is sent comes back at once."""
    topics.fill()

    def send_and_fail(self: Resender, records: list[tuple[Outgoing, int]], *, keep_partition: bool) -> None:
        SEND(self, records, keep_partition=keep_partition)
        topics.fill([(Envelope("in", 0, 10_000, int(time.time() * 1000), None, b"new"), Reason.NOT_JSON)])

    monkeypatch.setattr(Resender, "send", send_and_fail)
    assert topics.run("replay", "--rate", "20/s") == ExitCode.OK
    assert len(topics.arrived()) == len(ORIGINALS)


@pytest.mark.broker
@pytest.mark.slow
def test_replay_to_another_topic_that_is_not_there_sends_nothing(topics: Topics, capsys: Captured) -> None:
    topics.fill()
    assert topics.run("replay", "--to", "nowhere") == ExitCode.CONFIG
    assert capsys.readouterr().err == "streamd: there is no topic nowhere: nothing was sent\n"


@pytest.mark.broker
@pytest.mark.slow
def test_replay_goes_only_where_streamd_reads_or_where_it_is_told(topics: Topics, capsys: Captured) -> None:
    """What `dlq.topic` says is the word of whoever may write to the dead letters."""
    other = f"other-{topics.dlq}"
    create_topics(topics.settings, {other: 1})
    topics.fill([(Envelope(other, 0, 0, 1_763_769_600_000, None, b"x"), Reason.NOT_JSON)])
    assert topics.run("replay") == ExitCode.USAGE
    assert f"some came from {other}, which this configuration does not read" in capsys.readouterr().err
    assert topics.run("replay", "--topic", other) == ExitCode.OK
    assert [r.value for r in read_range(topics.settings, other, None, None)] == [b"x"]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
        (TransientError("the broker went away"), ExitCode.UNAVAILABLE, "the broker went away"),
    ],
)
def test_an_interrupted_replay_says_how_many_went_and_how_to_go_on(
    topics: Topics,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: ExitCode,
    words: str,
) -> None:
    topics.fill()

    def twice_then_not(self: Resender, records: list[tuple[Outgoing, int]], *, keep_partition: bool) -> None:
        if self.acknowledged == 2:
            raise error
        SEND(self, records, keep_partition=keep_partition)

    monkeypatch.setattr(Resender, "send", twice_then_not)
    assert topics.run("replay", "--rate", "20/s") == code
    said = capsys.readouterr().err
    assert said == (f"streamd: {words}: 2 of 4 records sent back; go on with the same filters and --after 0:1\n")
    monkeypatch.undo()
    assert topics.run("replay", "--after", "0:1") == ExitCode.OK
    assert sorted(r.timestamp_ms for r in topics.arrived()) == [o.timestamp_ms for o, _ in ORIGINALS]


@pytest.mark.broker
@pytest.mark.slow
def test_no_dead_letters_is_no_error(topics: Topics, capsys: Captured) -> None:
    assert topics.run("ls") == ExitCode.OK
    assert topics.run("replay") == ExitCode.OK
    assert capsys.readouterr().out == "no dead letters\nnothing sent back: no dead letter matches\n"


@pytest.mark.broker
def test_a_dead_letter_topic_that_is_not_there_is_78(
    embedded_broker: EmbeddedBroker, capsys: Captured, monkeypatch
) -> None:
    monkeypatch.setenv("STREAMD_TOPICS__DLQ", "no-such-dlq")
    assert verbs.run(["dlq", "ls", "--bootstrap-servers", embedded_broker.bootstrap_servers]) == ExitCode.CONFIG
    assert capsys.readouterr().err == "there is no topic no-such-dlq\n"


def test_without_a_broker_it_ends_with_69_and_a_sentence(capsys: Captured) -> None:
    for verb in (["ls"], ["show", "a/0/1"], ["replay"]):
        assert verbs.run(["dlq", *verb, "--bootstrap-servers", "127.0.0.1:9"]) == ExitCode.UNAVAILABLE
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert "127.0.0.1:9" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ls", "--reason", "not_jsn"], "did you mean not_json?"),
        (["ls", "--reason", "qqq"], "there are empty, no_stream"),
        (["ls", "--since", "yesterday"], "neither a while (30m, 1h, 7d) nor a time"),
        (["ls", "--since", "12"], "neither a while"),
        (["ls", "--stage", "cook"], "'cook' is not one of"),
        (["show", "features-3-12"], "no place: topic/partition/offset, such as streamd.features/3/1042"),
        (["replay", "--rate", "fast"], "records a second, minute or hour"),
        (["replay", "--after", "12"], "partition:offset with commas"),
    ],
)
def test_a_wrong_command_line_is_64_and_says_what_is_right(arguments: list[str], words: str, capsys: Captured) -> None:
    assert verbs.run(["dlq", *arguments]) == ExitCode.USAGE
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


# --- As text --------------------------------------------------------------------------------------


def row(place: str = "streamd.features/3/1042", error: str = ERROR) -> letters.Row:
    return letters.Row(1_763_769_600_000, place, "unknown_content_type", error)


def test_the_table_fits_the_terminal_and_keeps_the_offset() -> None:
    lines = list(letters.table([row(), row("a.team.with.a.very.long.topic.name/11/123456789", "short")], 80))
    assert max(map(len, lines)) <= 90  # the error keeps 15 columns: half a word says nothing
    assert "…" in lines[1]
    assert "…" in lines[2]
    assert "/11/123456789" in lines[2]


def test_nothing_is_cut_without_a_terminal() -> None:
    (_, line) = letters.table([row(error="e" * 500)], None)
    assert line.endswith("e" * 500)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"a":\n 1}', ['{"a":', " 1}"]),
        ("Grüße aus der Ferne\x1b[2J".encode(), ["Grüße aus der Ferne�[2J"]),
        (b"", []),
        (b"\x00\x01ABC", [f"{'00000000  00 01 41 42 43':<60}|..ABC|"]),
        (("ü" * 1999 + "€€").encode(), ["ü" * 1999 + "€", "… 3 bytes more: --raw writes all of it"]),
    ],
)
def test_a_value_is_shown_as_text_or_as_bytes(value: bytes, shown: list[str]) -> None:
    assert list(letters.preview(value)) == shown


def test_a_text_that_is_cut_inside_a_character_is_still_text() -> None:
    assert next(letters.preview(("x" + "€" * 10_000).encode())).startswith("x€€€")


@pytest.mark.parametrize(("text", "places"), [(None, {}), ("0:41", {0: 41}), ("0:41,12:7", {0: 41, 12: 7})])
def test_where_to_go_on_is_read_as_it_is_written(text: str | None, places: dict[int, int]) -> None:
    assert resending.parse_after(text) == places
