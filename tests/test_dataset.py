from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from streamd.dataset import DataFileError, open_dataset

ROWS = pa.table(
    {
        "amount": [1.0, 2.5, None, 4.0],
        "country": ["DE", None, "FR", "DE"],
        "online": [True, False, True, None],
        "label": [0, 1, 0, 0],
    }
)


def write(folder: Path, name: str, rows: pa.Table = ROWS) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pa.parquet.write_table(rows, path)
        case ".csv":
            pa.csv.write_csv(rows, path)
        case ".feather":
            pa.feather.write_feather(rows, path)
    return path


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.feather"])
def test_every_format_gives_the_same_columns(tmp_path: Path, name: str) -> None:
    data = open_dataset(write(tmp_path, name), others=["label"])
    (piece,) = data.tables()
    assert data.count == 4
    assert data.features == ("amount", "country", "online")
    np.testing.assert_array_equal(piece.table.numeric["amount"], [1.0, 2.5, np.nan, 4.0])
    country = piece.table.categorical["country"]
    assert [country.categories[code] if code >= 0 else None for code in country.codes][0::2] == ["DE", "FR"]
    assert piece.others["label"].tolist() == [0, 1, 0, 0]


def test_a_folder_is_read_file_by_file_and_its_partitions_are_columns(tmp_path: Path) -> None:
    for year in (2018, 2019):
        write(tmp_path, f"year={year}/part-0.parquet")
    (tmp_path / "_SUCCESS").touch()
    data = open_dataset(tmp_path)
    (piece,) = data.tables()
    assert data.count == 8
    assert piece.table.numeric["year"].tolist() == [2018.0] * 4 + [2019.0] * 4


@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_pieces_hold_as_many_rows_as_asked_for_in_their_order(tmp_path: Path, rows: int) -> None:
    pa.parquet.write_table(pa.table({"x": np.arange(10.0)}), tmp_path / "x.parquet", row_group_size=3)
    pieces = [piece.table.numeric["x"] for piece in open_dataset(tmp_path / "x.parquet").tables(rows)]
    assert [len(piece) for piece in pieces[:-1]] == [rows] * (len(pieces) - 1)
    assert np.concatenate(pieces).tolist() == list(range(10))


def test_a_sample_is_made_of_neighbours_from_all_of_the_file(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": np.arange(100_000.0)}), tmp_path / "x.parquet")
    x = open_dataset(tmp_path / "x.parquet").sample(2_000).table.numeric["x"]
    assert len(x) == 2_000
    assert np.count_nonzero(np.diff(x) == 1) == 2_000 - 20  # 20 blocks
    assert x[-1] > 95_000


def test_arrays_of_an_npz_file_are_columns_and_pictures(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, X=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, 0]), image=np.zeros((3, 4, 5)))
    data = open_dataset(path, others=["y"])
    (piece,) = data.tables()
    assert data.features == ("X0", "X1", "image")
    assert piece.table.numeric["X1"].tolist() == [1.0, 3.0, 5.0]
    assert piece.table.arrays["image"].shape == (3, 4, 5)
    assert piece.others["y"].tolist() == [0, 1, 0]


def test_a_folder_of_pictures_is_one_feature(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for number in range(3):
        image.fromarray(np.full((6, 5, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (piece,) = open_dataset(tmp_path).tables()
    assert piece.table.arrays["image"].shape == (3, 3, 6, 5)
    assert piece.table.arrays["image"][:, 0, 0, 0].tolist() == [0.0, 1.0, 2.0]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    good = write(tmp_path, "rows.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-20])
    (tmp_path / "odd.txt").write_text("x")
    (tmp_path / "mixed").mkdir()
    write(tmp_path / "mixed", "a.parquet")
    write(tmp_path / "mixed", "a.csv")
    pickled = tmp_path / "objects.npz"
    np.savez(pickled, x=np.array([{}, {}], dtype=object))
    pa.parquet.write_table(pa.table({"when": pa.array([0], pa.timestamp("s"))}), tmp_path / "when.parquet")
    with pytest.raises(FileNotFoundError):
        open_dataset(tmp_path / "none.parquet")
    with pytest.raises(DataFileError, match=r"cut\.parquet is not a readable parquet file"):
        open_dataset(cut)
    with pytest.raises(DataFileError, match=r"odd\.txt: \.txt is not one of"):
        open_dataset(tmp_path / "odd.txt")
    with pytest.raises(DataFileError, match=r"files of several formats \(csv, parquet\)"):
        open_dataset(tmp_path / "mixed")
    with pytest.raises(DataFileError, match="not a readable npz file of plain arrays"):
        open_dataset(pickled)
    with pytest.raises(DataFileError, match="no column 'amuont': did you mean 'amount'"):
        open_dataset(good, ["amuont"])
    with pytest.raises(DataFileError, match=r"'when' is timestamp.*--exclude when"):
        list(open_dataset(tmp_path / "when.parquet").tables())
