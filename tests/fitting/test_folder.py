from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from streamd.dataset import open_dataset
from streamd.fitting.folder import BundleError, BundleFolder, read, reference_bytes, table_of_bytes, write
from streamd.table import Categorical, Predictions, Table

TABLE = Table(
    3,
    {"amount": np.array([1.0, np.nan, 2.0])},
    {"amount": 1},
    {"country": Categorical(np.array([0, -1, 1], np.int32), ("DE", "FR"))},
    {"image": np.arange(12.0).reshape(3, 2, 2)},
    Predictions("logits", np.array([[0.5, 1.0], [2.0, -1.0], [0.0, 0.0]])),
)
BUNDLE = BundleFolder({"note": "fitted on 3 rows"}, b"weights", TABLE, {"loss.svg": b"<svg/>"})


def test_a_reference_comes_back_as_it_was() -> None:
    back = table_of_bytes(reference_bytes(TABLE))
    assert back.sha256() == TABLE.sha256()
    assert back.nulls == {"amount": 1}
    assert back.predictions is not None
    assert back.predictions.kind == "logits"


def test_other_tools_can_read_the_reference(tmp_path: Path) -> None:
    write(tmp_path / "bundle", BUNDLE)
    (piece,) = open_dataset(tmp_path / "bundle" / "reference.arrow", ["amount"]).tables()
    np.testing.assert_array_equal(piece.table.numeric["amount"], [1.0, np.nan, 2.0])


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    write(tmp_path / "models" / "fraud", BUNDLE)
    back = read(tmp_path / "models" / "fraud")
    assert (back.weights, back.pictures) == (b"weights", {"loss.svg": b"<svg/>"})
    assert back.description["note"] == "fitted on 3 rows"
    assert back.sha256 == BUNDLE.sha256 == back.description["sha256"]
    assert [file.name for file in tmp_path.glob("models/*")] == ["fraud"]


@pytest.mark.parametrize("name", ["weights.safetensors", "reference.arrow", "loss.svg"])
def test_one_changed_byte_is_found(tmp_path: Path, name: str) -> None:
    write(tmp_path / "bundle", BUNDLE)
    path = tmp_path / "bundle" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} is not what was written"):
        read(tmp_path / "bundle")


def test_a_bundle_is_replaced_when_asked_to_and_nothing_else_is(tmp_path: Path) -> None:
    write(tmp_path / "bundle", BUNDLE)
    with pytest.raises(BundleError, match="there already"):
        write(tmp_path / "bundle", BUNDLE)
    write(tmp_path / "bundle", BundleFolder({"note": "anew"}, None, TABLE), replace=True)
    assert read(tmp_path / "bundle").description["note"] == "anew"
    assert read(tmp_path / "bundle").weights is None
    (tmp_path / "photos").mkdir()
    with pytest.raises(BundleError, match="is no bundle"):
        write(tmp_path / "photos", BUNDLE, replace=True)


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    write(tmp_path / "bundle", BUNDLE)
    path = tmp_path / "bundle" / "bundle.json"
    description = orjson.loads(path.read_bytes())
    for changed, sentence in [
        ({**description, "format": "streamd-bundle/9"}, "this version reads"),
        ({**description, "files": {}}, "names no reference.arrow"),
        ({**description, "files": {**description["files"], "../secret": {"sha256": ""}}}, "describes no bundle"),
        ([], "describes no bundle"),
    ]:
        path.write_bytes(orjson.dumps(changed))
        with pytest.raises(BundleError, match=sentence):
            read(tmp_path / "bundle")
    path.unlink()
    with pytest.raises(BundleError, match=r"has no bundle\.json"):
        read(tmp_path / "bundle")
    with pytest.raises(BundleError, match="is not there"):
        read(tmp_path / "nothing")
