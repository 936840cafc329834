"""Bad input ends with a sentence that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamd.dataset import DataFileError
from streamd.screening import screen, source
from streamd.screening.source import open_source

GOOD = pa.table({"a": np.arange(400), "b": ["x", "y"] * 200})


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "is empty"),
        ("empty.parquet", b"", "is empty"),
        ("header.csv", b"a,b\n", "no rows"),
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the first has 2"),
        ("twice.csv", b"a,a\n1,2\n", "two columns of the name 'a'"),
        ("utf16.csv", "a,b\n1,2\n".encode("utf-16"), "is UTF-16: convert"),
        ("long.csv", b"a,b\n1," + b"x" * (2 << 20) + b"\n", "a line is longer than 1 MB"),
        ("later.csv", b"a,b\n" + b"1,2\n" * (1 << 20) + b"1," + b"x" * (3 << 20) + b"\n", "a line is longer than 1 MB"),
        ("latin1.csv", "a,b\nMüller,1\n".encode("latin1"), "'a' is not UTF-8"),
        ("late.csv", b"a,b\nabc,1\n" * 200_000 + "Müller,1\n".encode("latin1"), "line 400001, cell 1 is not UTF-8"),
        ("arrays.npz", b"abc", "not a readable npz"),
        ("data.xyz", b"abc", "is not one of"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataFileError, match=words) as caught:
        screen(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_parquet_file_is_cut_off(tmp_path: Path) -> None:
    pq.write_table(GOOD, tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(DataFileError, match="is cut off"):
        screen(write(tmp_path / "cut.parquet", whole[:-20]))


def test_parquet_pages_that_are_damaged_are_an_error_of_the_file(tmp_path: Path) -> None:
    pq.write_table(GOOD, tmp_path / "whole.parquet", compression="zstd")
    data = bytearray((tmp_path / "whole.parquet").read_bytes())
    data[40:400] = bytes(360)
    with pytest.raises(DataFileError):
        screen(write(tmp_path / "damaged.parquet", bytes(data)))


def test_a_folder_of_different_schemas_names_the_file_and_the_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(DataFileError, match=r"'a' is string, not int64, in 2\.parquet, unlike 1\.parquet"):
        screen(tmp_path)


def test_csv_files_of_different_columns_are_not_one_data_set(tmp_path: Path) -> None:
    write(tmp_path / "1.csv", b"a,b\n1,2\n")
    write(tmp_path / "2.csv", b"a,c\n1,2\n")
    with pytest.raises(DataFileError, match=r"'b' is missing in 2\.csv"):
        screen(tmp_path)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        screen(tmp_path / "nowhere.csv")


def test_a_csv_column_that_goes_on_as_text_is_text_with_a_finding(tmp_path: Path) -> None:
    rows = b"".join(b"%d,2\n" % (i % 900) for i in range(400_000)) + b"n.m.,3\n"
    screening = screen(write(tmp_path / "mixed.csv", b"a,b\n" + rows))
    assert [column.type for column in screening.columns] == ["categorical", "numeric"]
    (mixed,) = [finding for finding in screening.findings if finding.kind == "mixed_types"]
    assert mixed.evidence["first_row"] == 400_000


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": np.arange(400), "b": ["x", "y"] * 200}),
        pl.DataFrame({"a": np.arange(400), "b": ["x", "y"] * 200}),
        GOOD,
    ],
    ids=["pandas", "polars", "arrow"],
)
def test_frames_say_the_same_as_the_arrow_table(frame: Any) -> None:
    told, expected = screen(frame).to_json(), screen(GOOD).to_json()
    for column in told["columns"] + expected["columns"]:
        column.pop("stored")  # polars' strings are large strings
    assert told["columns"] == expected["columns"]
    assert told["findings"] == expected["findings"]


def test_a_pandas_column_of_mixed_types_is_read_as_text() -> None:
    source = open_source(pd.DataFrame({"a": [1, "x", None]}))
    assert source.chunks[0].data["a"].to_pylist() == ["1", "x", None]


def test_two_pandas_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataFileError, match="two columns of the name 'a'"):
        screen(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_what_is_no_data_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        screen(5)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": pa.nulls(50), "b": pa.nulls(50, pa.float64()), "c": pa.nulls(50, pa.string())}),
        pa.table({"a": [np.nan] * 50, "b": [np.inf] * 50, "c": [1e308, -1e308] * 25}),
        pa.table({"a": [[1, 2]] * 50, "b": [b"x"] * 50, "c": [{"x": 1}] * 50}),
        pa.table({"a": [1]}),
        pa.table({"a": ["x" * 5_000_000, "y"] * 3}),
        pa.table({"a": pa.array(["x", None, "y"] * 50, pa.string_view()), "b": pa.array([1, 2, 3] * 50, pa.float16())}),
    ],
    ids=["nulls", "extremes", "nested", "one row", "giant text", "new types"],
)
def test_odd_content_is_screened_without_an_error(table: pa.Table) -> None:
    assert screen(table).rows == table.num_rows


@pytest.mark.slow
def test_ten_thousand_columns_are_screened() -> None:
    rng = np.random.default_rng(0)
    wide = pa.table({f"x{i}": rng.normal(size=120) for i in range(10_000)})
    screening = screen(wide)
    assert len(screening.columns) == 10_000
    assert not [finding for finding in screening.findings if finding.severity.word != "info"]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "feather"])
def test_what_is_read_again_gives_the_findings_of_what_is_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.lognormal(size=3000), "c": rng.choice(["a", "b", "ü"], 3000), "late": "1"})
    frame.loc[2900:, "late"] = "text"
    path = tmp_path / f"data.{suffix}"
    getattr(frame, f"to_{suffix}")(path, **({"index": False} if suffix == "csv" else {}))
    held = open_source(path)
    monkeypatch.setattr(source, "HELD_BYTES", 0)
    again = open_source(path)
    assert isinstance(held.chunks[0].data, pa.Table)
    assert not isinstance(again.chunks[0].data, pa.Table)
    assert held.rows == again.rows == 3000
    told = screen(path).to_json()
    monkeypatch.undo()
    assert told == screen(path).to_json()


def test_all_files_of_a_folder_of_csv_are_counted_as_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, rows in (("a", 70), ("b", 0), ("c", 30)):
        (tmp_path / f"{part}.csv").write_text("x,y\n" + "1,2\n" * rows)
    monkeypatch.setattr(source, "HELD_BYTES", 0)
    opened = open_source(tmp_path)
    assert opened.rows == 100
    assert sum(batch.num_rows for chunk in opened.chunks for _, batch in opened.read(chunk)) == 100
