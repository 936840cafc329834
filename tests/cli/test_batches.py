"""Rows of files as batches: what is read, in which order, and what is said of files that cannot be sent."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from streamd.cli.batches import Columns, DataFile
from streamd.dataset import DataFileError

TABLE = pa.table(
    {
        "amount": pa.array([1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0]),
        "country": pa.array(["DE", "FR", "DE", None, "FR", "DE", "DE"]).dictionary_encode(),
        "n": pa.array(range(7), pa.int32()),
        "p": pa.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        "id": pa.array([f"t-{i}" for i in range(7)]),
        "at": pa.array([datetime.datetime(2026, 1, 1, 0, 0, i) for i in range(7)], pa.timestamp("us")),
    }
)
ROLES = Columns(probabilities=("p",), ids="id", time="at")
JANUARY_MS = 1_767_225_600_000


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(TABLE, path, row_group_size=2)
    return path


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 100])
def test_batches_hold_every_row_once_in_order_whatever_the_row_groups(parquet: Path, rows: int) -> None:
    batches = list(DataFile(parquet, ROLES).batches(rows))
    assert [batch.rows for batch in batches] == [rows] * (7 // rows) + ([7 % rows] if 7 % rows else [])
    assert [value for batch in batches for value in batch.features["n"].tolist()] == list(range(7))
    assert [name for batch in batches for name in batch.ids or ()] == [f"t-{i}" for i in range(7)]


def test_columns_that_have_a_role_are_no_features(parquet: Path) -> None:
    (batch,) = DataFile(parquet, ROLES).batches(100)
    assert batch.features is not None
    assert list(batch.features) == ["amount", "country", "n"]
    assert batch.features["amount"] == [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0]
    assert batch.features["country"] == ["DE", "FR", "DE", None, "FR", "DE", "DE"]


def test_one_column_of_probabilities_becomes_two_classes(parquet: Path) -> None:
    (batch,) = DataFile(parquet, ROLES).batches(100)
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert np.array_equal(batch.probabilities, np.stack([1 - p, p], axis=1))


def test_logits_stay_as_they_are(parquet: Path) -> None:
    (batch,) = DataFile(parquet, Columns(features=("n",), logits=("p", "amount"))).batches(100)
    assert batch.logits.shape == (7, 2)
    assert batch.logits[:2].tolist() == [[0.1, 1.0], [0.2, 2.0]]


def test_a_batch_has_the_time_of_its_latest_row(parquet: Path) -> None:
    assert [batch.ts for batch in DataFile(parquet, ROLES).batches(4)] == [JANUARY_MS + 3000, JANUARY_MS + 6000]


@pytest.mark.parametrize(
    "times",
    [
        pa.array(["2026-01-01T00:00:00Z"]),
        pa.array([JANUARY_MS]),
        pa.array([datetime.date(2026, 1, 1)]),
        pa.array([datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)], pa.timestamp("ns", tz="UTC")),
    ],
)
def test_times_may_be_text_numbers_dates_or_timestamps(tmp_path: Path, times: pa.Array) -> None:
    pq.write_table(pa.table({"x": [1.0], "at": times}), tmp_path / "t.parquet")
    (batch,) = DataFile(tmp_path / "t.parquet", Columns(time="at")).batches(10)
    assert batch.ts == JANUARY_MS


@pytest.mark.parametrize("suffix", [".csv", ".feather", ".arrow", ".pq"])
def test_every_kind_of_file_gives_the_same_batches(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    table = TABLE.select(["n", "p"])
    if suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif suffix == ".pq":
        pq.write_table(table, path)
    else:
        pyarrow.feather.write_feather(table, path)
    data = DataFile(path, Columns())
    assert data.count() == 7
    assert [batch.features["n"].tolist() for batch in data.batches(4)] == [[0, 1, 2, 3], [4, 5, 6]]


def test_a_file_that_is_not_there_is_told_from_one_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DataFile(tmp_path / "no.parquet", Columns())


@pytest.mark.parametrize(
    ("name", "words"), [("x.parquet", "not a readable parquet"), ("x.xlsx", "not one of .parquet")]
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"something else entirely")
    with pytest.raises(DataFileError, match=words):
        DataFile(tmp_path / name, Columns())


def test_a_misspelt_column_is_answered_with_the_nearest(parquet: Path) -> None:
    with pytest.raises(DataFileError, match="no column 'amout': did you mean 'amount'"):
        DataFile(parquet, Columns(features=("amout",)))


def test_a_csv_file_that_goes_wrong_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("a,b\n" + "1,2\n" * 10 + "1,2,3\n")
    with pytest.raises(DataFileError, match=r"bad\.csv"):
        list(DataFile(path, Columns()).batches(5))


def test_a_column_that_is_no_feature_is_refused_with_the_way_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0], "when": pa.array([0], pa.timestamp("s"))}), tmp_path / "t.parquet")
    with pytest.raises(DataFileError, match=r"'when' is timestamp.*--columns"):
        list(DataFile(tmp_path / "t.parquet", Columns()).batches(1))


def test_predictions_that_are_text_are_refused(parquet: Path) -> None:
    with pytest.raises(DataFileError, match="must be numbers"):
        list(DataFile(parquet, Columns(features=("n",), logits=("id",))).batches(10))


# --- Parts of a reference ---------------------------------------------------------------------------


def shuffled(tmp_path: Path, times: pa.Array) -> DataFile:
    order = np.random.default_rng(0).permutation(len(times))
    table = pa.table({"n": pa.array(range(len(times))), "c": pa.array(["a", "b"] * (len(times) // 2)), "at": times})
    table = table.set_column(1, "c", table["c"].dictionary_encode())
    pq.write_table(table.take(order), tmp_path / "r.parquet", row_group_size=7)
    return DataFile(tmp_path / "r.parquet", Columns(time="at"))


def test_parts_of_a_reference_are_of_one_hour_each_in_the_order_of_time(tmp_path: Path) -> None:
    every_ten_minutes = [JANUARY_MS + 600_000 * i for i in range(30)]
    count, batches = shuffled(tmp_path, pa.array(every_ten_minutes, pa.timestamp("ms"))).parts(4)
    parts = list(batches)
    assert count == len(parts) == 10
    assert [batch.rows for batch in parts] == [4, 2] * 5
    assert [n for batch in parts if batch.features for n in batch.features["n"].tolist()] == list(range(30))
    assert [c for batch in parts if batch.features for c in batch.features["c"]] == ["a", "b"] * 15
    assert [batch.ts for batch in parts[:3]] == [every_ten_minutes[3], every_ten_minutes[5], every_ten_minutes[9]]


def test_parts_without_a_time_column_are_the_batches(parquet: Path) -> None:
    count, batches = DataFile(parquet, Columns(features=("n",))).parts(3)
    assert count == 3
    assert [batch.rows for batch in batches] == [3, 3, 1]


def test_a_reference_of_whose_rows_one_has_no_time_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "at": pa.array([JANUARY_MS, None, None])}), tmp_path / "t.parquet")
    with pytest.raises(DataFileError, match="row 1 has no 'at'; a reference wants the time of every row"):
        DataFile(tmp_path / "t.parquet", Columns(time="at")).parts(10)
