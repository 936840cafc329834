from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from streamd.scorers.bundle import Bundle, from_bytes, to_bytes
from streamd.scorers.transform import Transform


def bundle() -> Bundle:
    rng = np.random.default_rng(0)
    transform = Transform(("age",), np.array([0.1]), np.array([3.0]), (("land", ("Österreich", "DE")),), 10.0)
    layers = tuple(
        (rng.normal(size=shape).astype(np.float32), rng.normal(size=shape[0]).astype(np.float32))
        for shape in ((2, 3), (3, 2))
    )
    errors = rng.random(5).astype(np.float32).astype(np.float64)
    return Bundle(transform, layers, errors, rng.random(3), 0.1 + 0.2, "fitted on 5 rows")


def test_a_bundle_survives_its_bytes_exactly() -> None:
    before, after = bundle(), from_bytes(to_bytes(bundle()))
    assert after.transform.numeric == before.transform.numeric
    assert after.transform.categorical == before.transform.categorical
    assert (after.row_threshold, after.note, after.transform.bound) == (before.row_threshold, before.note, 10.0)
    for left, right in zip(before.layers, after.layers, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])
    np.testing.assert_array_equal(before.errors, after.errors)
    np.testing.assert_array_equal(before.input_errors, after.input_errors)
    np.testing.assert_array_equal(before.transform.scales, after.transform.scales)


def test_equal_bundles_give_equal_bytes() -> None:
    assert to_bytes(bundle()) == to_bytes(bundle())
    assert to_bytes(from_bytes(to_bytes(bundle()))) == to_bytes(bundle())


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_truncated_bytes_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="no autoencoder bundle"):
        from_bytes(to_bytes(bundle())[:length])


def test_a_pickle_is_refused_and_never_opened() -> None:
    with pytest.raises(ValueError, match="no autoencoder bundle"):
        from_bytes(pickle.dumps({"weights": [1.0]}))


def test_safetensors_of_something_else_are_refused() -> None:
    from safetensors.numpy import save

    with pytest.raises(ValueError, match="no autoencoder bundle"):
        from_bytes(save({"weights": np.zeros(3)}))
    with pytest.raises(ValueError, match="fit them anew"):
        from_bytes(save({"weights": np.zeros(3)}, metadata={"streamd": '{"format": "dense-autoencoder/99"}'}))


def test_layers_that_do_not_fit_each_other_are_refused() -> None:
    good = bundle()
    with pytest.raises(ValueError, match="layer 1"):
        from_bytes(to_bytes(dataclasses.replace(good, layers=(good.layers[0], good.layers[0]))))
    with pytest.raises(ValueError, match="2 outputs for 3 inputs"):
        from_bytes(to_bytes(dataclasses.replace(good, layers=good.layers[:1])))
