"""Dead letters read back: the original again, and why it was refused."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamd.dead_letters import Letter, Wanted, read_letter
from streamd.errors import Reason
from streamd.model import DeadLetter, Envelope, Header
from streamd.sinks.records import dead_letter_record
from streamd.transport.base import Outgoing

ORIGINAL = Envelope("streamd.features", 3, 1042, 1_763_769_600_123, b"fraud/7", b"{nonsense", (("trace", b"\xff\x00"),))


def as_record(original: Envelope, reason: Reason = Reason.NOT_JSON) -> Envelope:
    """The dead letter of `original` as it stands in its topic."""
    sent = dead_letter_record(DeadLetter(original, reason.stage, reason, "it is no JSON"), "streamd.dlq", "1.0")
    return Envelope("streamd.dlq", 1, 7, sent.timestamp_ms or 0, sent.key, sent.value, sent.headers)


def letter(original: Envelope = ORIGINAL, reason: Reason = Reason.NOT_JSON) -> Letter:
    read = read_letter(as_record(original, reason))
    assert read is not None
    return read


headers = st.lists(st.tuples(st.text(max_size=9).filter(lambda name: not name.startswith("dlq.")), st.binary()))


@given(st.none() | st.binary(), st.none() | st.binary(), headers, st.integers(-1, 2**62))
def test_what_was_written_as_a_dead_letter_is_read_as_the_very_original(
    key: bytes | None, value: bytes | None, its_headers: list[Header], timestamp_ms: int
) -> None:
    original = Envelope("streamd.features", 3, 1042, timestamp_ms, key, value, tuple(its_headers))
    read = letter(original)
    assert read.original == original
    assert (read.stage, read.reason, read.error, read.version) == ("decode", "not_json", "it is no JSON", "1.0")
    assert (read.place, read.dlq_place) == ("streamd.features/3/1042", "streamd.dlq/1/7")


def test_what_goes_back_is_the_original_and_one_header_that_says_so() -> None:
    sent = letter().to_send()
    marked = (*ORIGINAL.headers, ("dlq.replayed", b"1"))
    assert sent == Outgoing("streamd.features", b"fraud/7", b"{nonsense", marked, 1_763_769_600_123)
    assert letter().to_send("elsewhere").topic == "elsewhere"


def test_a_record_that_fails_again_says_how_often_it_had_been_sent_back() -> None:
    first = letter()
    assert first.replayed == 0
    sent = first.to_send()
    failed_again = dataclasses.replace(ORIGINAL, offset=2000, headers=sent.headers)
    second = letter(failed_again, Reason.BAD_SCHEMA)
    assert (second.replayed, second.reason, second.original.headers) == (1, "bad_schema", ORIGINAL.headers)
    assert second.to_send().headers == (*ORIGINAL.headers, ("dlq.replayed", b"2"))


def test_a_dead_letter_that_was_copied_back_whole_is_about_its_last_failure() -> None:
    copied = dataclasses.replace(as_record(ORIGINAL), topic="streamd.telemetry", partition=0, offset=5)
    again = letter(copied, Reason.NO_STREAM)
    assert (again.place, again.reason) == ("streamd.telemetry/0/5", "no_stream")
    assert again.original.headers == ORIGINAL.headers


def test_kafkas_no_timestamp_is_not_sent() -> None:
    assert letter(dataclasses.replace(ORIGINAL, timestamp_ms=-1)).to_send().timestamp_ms is None


@pytest.mark.parametrize(
    "name", ["dlq.topic", "dlq.partition", "dlq.offset", "dlq.timestamp", "dlq.stage", "dlq.reason"]
)
@pytest.mark.parametrize("value", [None, b"", b"\xff"])
def test_a_record_without_our_headers_is_no_dead_letter(name: str, value: bytes | None) -> None:
    record = as_record(ORIGINAL)
    damaged = tuple((n, value if n == name else v) for n, v in record.headers)
    read = read_letter(dataclasses.replace(record, headers=damaged))
    assert read is None or (value == b"\xff" and name in ("dlq.topic", "dlq.stage", "dlq.reason"))
    assert read_letter(dataclasses.replace(record, headers=())) is None


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), True),
        (Wanted(reasons=frozenset({"not_json", "empty"})), True),
        (Wanted(reasons=frozenset({"empty"})), False),
        (Wanted(topic="streamd.features"), True),
        (Wanted(topic="streamd.telemetry"), False),
        (Wanted(stage="decode"), True),
        (Wanted(stage="validate"), False),
        (Wanted(since_ms=1_763_769_600_123), True),
        (Wanted(since_ms=1_763_769_600_124), False),
        (Wanted(frozenset({"not_json"}), "streamd.features", "validate"), False),
    ],
)
def test_dead_letters_are_chosen_by_all_that_is_asked_for(wanted: Wanted, matches: bool) -> None:
    assert wanted.matches(letter()) is matches
