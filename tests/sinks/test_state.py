"""State as records: what is put together again is what was written, or nothing, whatever the topic has become."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamd.errors import ConfigError
from streamd.model import Envelope
from streamd.sinks import state
from streamd.sinks.state import (
    Part,
    StateTooLargeError,
    StateVersionError,
    assemble,
    owner_name,
    part_records,
    tombstones,
)
from streamd.transport.base import Outgoing, Partition

OWNER = "streamd/streamd.features/3"
TOPIC = "streamd.state"
CHUNK = 8  # small, so that a few random bytes make several chunks

names = st.sampled_from(["snapshot/0", "snapshot/1", "reference/abc-batches", "tick/1763769600123"])
# Random bytes do not compress, so that parts differ in their number of chunks.
parts = st.builds(Part, names, st.integers(0, 20), st.binary(max_size=40))


def written(part: Part, owner: str = OWNER) -> list[Outgoing]:
    return part_records(owner, part, TOPIC, CHUNK)


def log(outgoing: Iterable[Outgoing]) -> list[Envelope]:
    """The records as a partition of the state topic shows them."""
    return [Envelope(o.topic, 0, offset, 0, o.key, o.value, o.headers) for offset, o in enumerate(outgoing)]


def compacted(records: Sequence[Envelope], dirty: int) -> list[Envelope]:
    """What Kafka's cleaner leaves: before offset `dirty`, only records whose key does not come again."""
    last = {record.key: record.offset for record in records}
    return [r for r in records if r.offset >= dirty or (last[r.key] == r.offset and r.value is not None)]


@given(parts, st.integers(1, 50))
def test_what_is_written_is_read_back(part: Part, chunk_bytes: int) -> None:
    records = part_records(OWNER, part, TOPIC, chunk_bytes)
    found = assemble(log(records), OWNER, committed=part.offset)
    assert found.parts == {part.name: part}
    assert found.chunks == {part.name: len(records)}
    assert found.problems == []


def test_the_records_are_those_of_the_contract() -> None:
    data = bytes(range(200)) * 5
    records = part_records(OWNER, Part("snapshot/0", 4711, data), TOPIC, chunk_bytes=150)
    frame = b"".join(r.value or b"" for r in records)
    assert zstandard.decompress(frame) == data
    assert [r.key for r in records] == [b"streamd/streamd.features/3/snapshot/0/%d" % i for i in range(len(records))]
    assert {r.placement for r in records} == {OWNER.encode()}
    assert {r.topic for r in records} == {TOPIC}
    assert len(records) > 1
    digest = hashlib.sha256(b"streamd/streamd.features/3\0snapshot/0\x004711\0" + frame).hexdigest().encode()
    for index, record in enumerate(records):
        assert len(record.value or b"") <= 150
        assert dict(record.headers) == {
            "state-version": b"4",
            "state-offset": b"4711",
            "state-chunk": b"%d/%d" % (index, len(records)),
            "state-sha256": digest,
        }
    assert owner_name("streamd", Partition("streamd.features", 3)) == OWNER


def test_a_part_of_no_bytes_is_a_part() -> None:
    assert assemble(log(written(Part("weights/x", 0, b""))), OWNER, 0).parts["weights/x"].data == b""


def test_a_chunk_and_its_headers_fit_into_kafkas_default_limit_of_a_record() -> None:
    noise = hashlib.shake_256(b"noise").digest(2_000_000)
    owner = owner_name("g" * 200, Partition("t" * 249, 9999))
    for record in part_records(owner, Part("reference/" + "r" * 100, 10**17, noise), TOPIC):
        size = (
            len(record.value or b"") + len(record.key or b"") + sum(len(n) + len(v or b"") for n, v in record.headers)
        )
        assert size < 1_000_000


# --- A topic that is not to be trusted ---


@st.composite
def damaged_logs(draw: st.DrawFn) -> tuple[list[Part], list[Outgoing]]:
    """Parts, and their records doubled, moved, dropped, cut, flipped, mislabelled, removed and among strangers."""
    generations = draw(st.lists(parts, min_size=1, max_size=6))
    records = [record for part in generations for record in written(part)]
    for _ in range(draw(st.integers(0, 12))):
        if not records:
            break
        at = draw(st.integers(0, len(records) - 1))
        record = records[at]
        match draw(
            st.sampled_from(["drop", "double", "move", "flip", "cut", "relabel", "rekey", "remove", "stranger"])
        ):
            case "drop":
                del records[at]
            case "double":
                records.insert(draw(st.integers(0, len(records))), record)
            case "move":
                records.insert(draw(st.integers(0, len(records) - 1)), records.pop(at))
            case "flip" if record.value:
                bit = draw(st.integers(0, 8 * len(record.value) - 1))
                value = (int.from_bytes(record.value, "big") ^ 1 << bit).to_bytes(len(record.value), "big")
                records[at] = Outgoing(TOPIC, record.key, value, record.headers)
            case "cut" if record.value:
                records[at] = Outgoing(TOPIC, record.key, record.value[:-1], record.headers)
            case "relabel":
                headers = dict(record.headers)
                # Not the version: another one is refused aloud, see below.
                name = draw(st.sampled_from(["state-offset", "state-chunk", "state-sha256"]))
                other = dict(records[draw(st.integers(0, len(records) - 1))].headers)
                headers[name] = draw(
                    st.sampled_from([other.get(name), b"", b"7", b"0/1", b"1/0", None, b"\xff", b"-1"])
                )
                records[at] = Outgoing(TOPIC, record.key, record.value, tuple(headers.items()))
            case "rekey":
                others = [r.key for r in records] + [None, b"", OWNER.encode(), OWNER.encode() + b"/x", b"\xff/\xfe/0"]
                records[at] = Outgoing(TOPIC, draw(st.sampled_from(others)), record.value, record.headers)
            case "remove":
                records.insert(draw(st.integers(0, len(records))), Outgoing(TOPIC, record.key, None))
            case "stranger":
                stranger = draw(st.sampled_from(["streamd/streamd.features/30", OWNER + "/snapshot", "another/t/3"]))
                records[at:at] = written(draw(parts), stranger)
            case _:
                pass
    return generations, records


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(damaged_logs(), st.integers(0, 20))
def test_from_a_damaged_topic_comes_a_part_that_was_written_or_none(
    damaged: tuple[list[Part], list[Outgoing]], committed: int
) -> None:
    generations, records = damaged
    found = assemble(log(records), OWNER, committed)
    for name, part in found.parts.items():
        assert part.name == name
        assert part.offset <= committed
        assert part in generations
    keys = {record.key for record in records if record.value is not None}
    for name, count in found.chunks.items():
        assert f"{OWNER}/{name}/{count - 1}".encode() in keys


@settings(max_examples=200)
@given(damaged_logs(), parts, st.booleans())
def test_a_part_written_last_and_whole_is_found_whatever_came_before(
    damaged: tuple[list[Part], list[Outgoing]], part: Part, doubled: bool
) -> None:
    records = damaged[1] + written(part) + written(part) * doubled
    assert assemble(log(records), OWNER, committed=part.offset).parts[part.name] == part


@given(st.lists(parts, min_size=1, max_size=8), st.integers(0, 200))
def test_compaction_never_changes_what_is_found(generations: list[Part], dirty: int) -> None:
    records: list[Outgoing] = []
    count: dict[str, int] = {}
    for part in generations:
        chunks = written(part)
        records += chunks + tombstones(OWNER, part.name, count.get(part.name, 0), TOPIC, start=len(chunks))
        count[part.name] = len(chunks)
    whole = log(records)
    expected = assemble(whole, OWNER, committed=20)
    assert expected.parts == {part.name: part for part in generations}
    assert expected.chunks == count
    assert expected.problems == []
    assert assemble(compacted(whole, dirty), OWNER, committed=20) == expected


@given(st.lists(parts, min_size=1, max_size=4), st.lists(st.builds(Part, names, st.integers(21, 30), st.binary())))
def test_what_is_ahead_of_the_committed_offset_is_as_if_it_had_never_been_written(
    generations: list[Part], aborted: list[Part]
) -> None:
    records = [record for part in generations for record in written(part)]
    expected = assemble(log(records), OWNER, committed=20).parts
    for part in aborted:
        records += written(part) + tombstones(OWNER, part.name, 9, TOPIC, offset=part.offset)
    found = assemble(log(records), OWNER, committed=20)
    assert found.parts == expected
    for part in aborted:
        sentence = f"{part.name} of input offset {part.offset} cannot be used: the group has committed 20 only"
        assert sentence in found.problems


OLD, NEW = Part("snapshot/0", 10, b"old" * 30), Part("snapshot/0", 20, bytes(range(100)))


def test_where_a_chunk_of_the_newest_is_missing_the_one_before_is_found_and_a_sentence_says_so() -> None:
    records = written(OLD) + written(NEW)[:-1]
    count = len(written(NEW))
    found = assemble(log(records), OWNER, committed=20)
    assert found.parts == {"snapshot/0": OLD}
    assert found.problems == [
        f"snapshot/0 of input offset 20 cannot be used: {count - 1} of its {count} chunks are there"
    ]


def test_where_a_byte_of_the_newest_is_wrong_the_one_before_is_found_and_a_sentence_says_so() -> None:
    first, *rest = written(NEW)
    wrong = Outgoing(TOPIC, first.key, bytes([(first.value or b"x")[0] ^ 1]) + (first.value or b"")[1:], first.headers)
    found = assemble(log([*written(OLD), wrong, *rest]), OWNER, committed=20)
    assert found.parts == {"snapshot/0": OLD}
    assert found.problems == ["snapshot/0 of input offset 20 cannot be used: its checksum does not fit"]


def test_the_one_written_last_wins_and_not_the_one_of_the_largest_offset() -> None:
    """A group whose offsets were set back lives again: what its first life wrote ahead of it is of no use."""
    found = assemble(log(written(NEW) + written(OLD)), OWNER, committed=100)
    assert found.parts == {"snapshot/0": OLD}


def test_a_single_old_chunk_that_comes_late_does_not_bring_its_generation_back() -> None:
    old = Part("snapshot/0", 10, bytes(range(100, 200)))
    found = assemble(log(written(old) + written(NEW) + written(old)[:1]), OWNER, committed=20)
    assert found.parts == {"snapshot/0": NEW}


@pytest.mark.parametrize("label", [b"1/1", b"0/2", b"1/0", b"1/100001", b"1", b"1/", b"/", b"one/two", b"1/2/3", b""])
def test_a_chunk_whose_headers_contradict_its_key_is_left_out_and_named(label: bytes) -> None:
    chunk = Outgoing(
        TOPIC, f"{OWNER}/snapshot/0/1".encode(), b"x", (*written(NEW)[0].headers[:3], ("state-chunk", label))
    )
    found = assemble(log([*written(OLD), chunk]), OWNER, committed=20)
    assert found.parts == {"snapshot/0": OLD}
    found = assemble(log([chunk]), OWNER, committed=20)
    assert found.parts == {}
    assert found.chunks == {"snapshot/0": 2}
    assert found.problems == ["chunk 1 of snapshot/0 has headers that make no sense"]


def test_a_removed_part_is_gone_and_one_key_that_was_left_can_still_be_removed() -> None:
    records = written(OLD)
    count = len(records)
    gone = assemble(log(records + tombstones(OWNER, "snapshot/0", count, TOPIC)), OWNER, committed=20)
    assert (gone.parts, gone.chunks, gone.problems) == ({}, {}, [])
    left = assemble(log(records + tombstones(OWNER, "snapshot/0", count - 1, TOPIC)), OWNER, committed=20)
    assert (left.parts, left.chunks) == ({}, {"snapshot/0": count})


def test_the_state_of_others_in_the_same_partition_is_nobodys_problem() -> None:
    others = [r for owner in ("streamd/streamd.features/30", "a/b/3") for r in written(NEW, owner)]
    found = assemble(log(others), OWNER, committed=20)
    assert (found.parts, found.chunks, found.problems) == ({}, {}, [])


def test_keys_that_are_not_ours_are_named_and_never_counted() -> None:
    keys = [b"/x", b"//0", b"/snapshot/0/007", b"/snapshot/0/999999999999", b"/snapshot/0/-1", b"/\xff/0", b"/0"]
    foreign = [Outgoing(TOPIC, OWNER.encode() + key, b"x") for key in keys]
    found = assemble(log(foreign), OWNER, committed=20)
    assert (found.parts, found.chunks) == ({}, {})
    assert len(found.problems) == len(keys)
    assert all("is none of streamd's" in sentence for sentence in found.problems)


def test_however_much_is_wrong_the_sentences_stay_few() -> None:
    foreign = [Outgoing(TOPIC, f"{OWNER}/x{i}/0".encode(), b"x") for i in range(1000)]
    assert len(assemble(log(foreign), OWNER, committed=20).problems) == 50


@pytest.mark.parametrize("header", [b"1", b"99"])
def test_a_format_version_of_another_release_is_refused_with_what_to_do(header: bytes) -> None:
    (first, *rest) = written(NEW)
    newer = Outgoing(TOPIC, first.key, first.value, (*first.headers[1:], ("state-version", header)))
    with pytest.raises(StateVersionError, match=r"format version \d+, .*reads 4: run the release that wrote it, or"):
        assemble(log([newer, *rest]), OWNER, committed=20)
    assert issubclass(StateVersionError, ConfigError)
    # Once it is overwritten or removed, it is of no consequence.
    assert assemble(log([newer, *written(NEW)]), OWNER, committed=20).parts == {"snapshot/0": NEW}
    assert assemble(log([newer, *tombstones(OWNER, "snapshot/0", 1, TOPIC)]), OWNER, committed=20).parts == {}


def test_a_frame_that_would_grow_beyond_the_limit_is_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    records = log(written(Part("snapshot/0", 1, bytes(100_000))))
    monkeypatch.setattr(state, "PART_BYTES_MAX", 99_999)
    found = assemble(records, OWNER, committed=1)
    assert found.parts == {}
    assert found.problems == ["snapshot/0 of input offset 1 cannot be used: it would be over 99999 bytes"]


def test_a_part_that_would_not_be_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "PART_BYTES_MAX", 99)
    with pytest.raises(StateTooLargeError, match=r"snapshot/0.* has 100 bytes, over 99: give the input topic more"):
        written(Part("snapshot/0", 1, bytes(100)))
