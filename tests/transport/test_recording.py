"""Records in a file: what is written is read, and what is damaged is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamd.model import Envelope
from streamd.transport import recording
from streamd.transport.recording import read_recording, write_recording

bytes_or_null = st.none() | st.binary(max_size=40)
envelopes = st.builds(
    Envelope,
    topic=st.sampled_from(["a", "b"]),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**63 - 1),
    key=bytes_or_null,
    value=bytes_or_null,
    headers=st.lists(st.tuples(st.text(max_size=5), bytes_or_null), max_size=3).map(tuple),
)


def _some(count: int = 5) -> list[Envelope]:
    return [Envelope("t", i % 2, 10 + i // 2, 1000 + i, b"k", b"value %d" % i, (("h", None),)) for i in range(count)]


@settings(deadline=None, max_examples=50)
@given(st.lists(envelopes, max_size=20))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, written: list[Envelope]) -> None:
    path = tmp_path_factory.mktemp("recording") / "r.arrows"
    assert write_recording(path, written) == len(written)
    assert list(read_recording(path)) == written


def test_many_records_make_many_batches(tmp_path: Path) -> None:
    write_recording(tmp_path / "r", _some(3000))
    assert list(read_recording(tmp_path / "r")) == _some(3000)
    with pa.ipc.open_stream(tmp_path / "r") as reader:
        assert [batch.num_rows for batch in reader] == [1024, 1024, 952]


def test_a_file_cut_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    write_recording(tmp_path / "whole", _some())
    whole = (tmp_path / "whole").read_bytes()
    for length in (*range(0, len(whole), 7), *range(len(whole) - 16, len(whole))):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut"):
            list(read_recording(tmp_path / "cut"))


def test_a_file_with_a_damaged_byte_in_a_value_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without compression, so that a byte of the value can be found and Arrow itself cannot notice.
    monkeypatch.setattr(recording, "_COMPRESSION", None)
    write_recording(tmp_path / "r", _some())
    damaged = (tmp_path / "r").read_bytes().replace(b"value 3", b"value 4")
    (tmp_path / "r").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"record 3 \(t/1/11\) is damaged"):
        list(read_recording(tmp_path / "r"))


def test_another_arrow_file_is_no_recording(tmp_path: Path) -> None:
    table = pa.table({"x": [1]})
    with pa.ipc.new_stream(str(tmp_path / "x"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match="not a recording"):
        list(read_recording(tmp_path / "x"))


def test_a_missing_file_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_recording(tmp_path / "none"))


def test_a_recording_that_fails_leaves_no_file_under_its_name(tmp_path: Path) -> None:
    def broken() -> Iterator[Envelope]:
        yield from _some(1)
        raise RuntimeError("the broker is away")

    with pytest.raises(RuntimeError):
        write_recording(tmp_path / "r", broken())
    assert not (tmp_path / "r").exists()


def test_an_interrupted_recording_keeps_what_it_has(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Envelope]:
        yield from _some(3)
        raise KeyboardInterrupt

    assert write_recording(tmp_path / "r", interrupted()) == 3
    assert list(read_recording(tmp_path / "r")) == _some(3)


def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_BATCH_BYTES", 20)
    assert [len(batch) for batch in recording._batches(_some(5))] == [3, 2]
