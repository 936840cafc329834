from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from safetensors.numpy import save

from streamd.scorers.fitted import Fitted, Spotted, from_bytes, to_bytes

RNG = np.random.default_rng(0)
FITTED = Fitted(
    kind="reconstruction",
    described={"columns": ["Österreich", "DE"], "bound": 0.1 + 0.2},
    tensors={"weights.0": RNG.normal(size=(2, 3)).astype(np.float32), "transform.means": RNG.normal(size=3)},
    calibration=RNG.random(5),
    row_threshold=0.1 + 0.7,
    note="fitted on 5 rows",
    spot=Spotted(0.001, 20),
    usual=np.array([0.25, 0.75]),
)


@pytest.mark.parametrize("fitted", [FITTED, dataclasses.replace(FITTED, spot=None, usual=None)])
def test_a_fit_survives_its_bytes_exactly(fitted: Fitted) -> None:
    after = from_bytes(to_bytes(fitted))
    for field in ("kind", "described", "row_threshold", "note", "spot"):
        assert getattr(after, field) == getattr(fitted, field)
    assert after.tensors.keys() == fitted.tensors.keys()
    for name, array in fitted.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], array)
        assert after.tensors[name].dtype == array.dtype
    np.testing.assert_array_equal(after.calibration, fitted.calibration)
    assert (after.usual is None) == (fitted.usual is None)
    np.testing.assert_array_equal(after.usual, fitted.usual)  # type: ignore[arg-type]


def test_equal_fits_give_equal_bytes() -> None:
    assert to_bytes(from_bytes(to_bytes(FITTED))) == to_bytes(FITTED)


def test_a_fit_without_tensors_has_learned_nothing() -> None:
    nothing = Fitted("reconstruction", {}, {}, np.zeros(0), 0.0, "not fitted: 3 rows are too few")
    assert from_bytes(to_bytes(nothing)).empty
    assert from_bytes(to_bytes(nothing)).note == nothing.note
    assert not FITTED.empty


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_truncated_bytes_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="no fitted scorer"):
        from_bytes(to_bytes(FITTED)[:length])


def test_a_pickle_is_refused_and_never_opened() -> None:
    with pytest.raises(ValueError, match="no fitted scorer"):
        from_bytes(pickle.dumps({"weights": [1.0]}))


def test_safetensors_of_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="no fitted scorer"):
        from_bytes(save({"weights": np.zeros(3)}))
    with pytest.raises(ValueError, match="fit them anew"):
        from_bytes(save({"weights": np.zeros(3)}, metadata={"streamd": '{"format": "streamd-scorer/99"}'}))
