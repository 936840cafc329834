from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from streamd.scorers import registry
from streamd.scorers.fitted import Fitted
from streamd.scorers.networks.architecture import network
from streamd.table import Categorical, Table

LINEAR = {"network": "dense", "activations": ["tanh", "linear"]}


def dense() -> Fitted:
    """Two numbers and a category of two: four inputs, a code of one."""
    rng = np.random.default_rng(0)
    described = {"numeric": ["a", "b"], "categorical": [["c", ["x", "y"]]], "indicated": [], "bound": 10.0}
    tensors = {
        "transform.means": np.array([1.0, 2.0]),
        "transform.scales": np.array([2.0, 0.5]),
        "transform.fills": np.zeros(2),
        "weights.0": rng.normal(size=(1, 4)).astype(np.float32),
        "biases.0": rng.normal(size=1).astype(np.float32),
        "weights.1": rng.normal(size=(4, 1)).astype(np.float32),
        "biases.1": rng.normal(size=4).astype(np.float32),
        "precisions": np.array([1, 2, 3, 4], np.float32),
    }
    return Fitted("reconstruction", {"transform": described, "network": LINEAR}, tensors, np.zeros(0), 0.0, "")


def rows() -> Table:
    codes = Categorical(np.array([0, 1, 1], np.int32), ("x", "y"))
    return Table(3, {"a": np.array([1.0, 5.0, -3.0]), "b": np.array([2.5, 0.0, 2.0])}, categorical={"c": codes})


def windows(module_seed: int = 0) -> Fitted:
    torch.manual_seed(module_seed)
    described = {"network": "recurrent", "cell": "gru", "units": 6, "code": 3, "bounded": False}
    made = network({**described, "shape": (2, 9)})
    tensors = {f"network.{name}": value.numpy() for name, value in made.state_dict().items()}
    transform = {"array": "w", "reads": "windows", "sent": [9, 2], "bound": 10.0}
    scale = {"transform.means": np.zeros(2), "transform.scales": np.ones(2), "transform.fills": np.zeros(2)}
    return Fitted(
        "reconstruction", {"transform": transform, "network": described}, {**tensors, **scale}, np.zeros(0), 0.0, ""
    )


def test_the_score_is_the_weighted_mean_of_squared_errors_of_the_inputs() -> None:
    fitted = dense()
    t = fitted.tensors
    inputs = np.array([[0, 2, -2], [1, -4, 0], [1, 0, 0], [0, 1, 1]], np.float64)
    hidden = np.tanh(t["weights.0"] @ inputs + t["biases.0"][:, None])
    squared = (t["weights.1"] @ hidden + t["biases.1"][:, None] - inputs) ** 2 * t["precisions"][:, None]
    scores = registry.load(fitted, "cpu").score(rows())
    np.testing.assert_allclose(scores.values, squared.mean(axis=0), rtol=1e-5)
    explained = scores.explain(np.array([2, 0]))
    np.testing.assert_allclose(
        explained, np.stack([squared[0], squared[1], squared[2:].sum(axis=0)])[:, [2, 0]], rtol=1e-5
    )


def test_shares_add_up_to_the_score() -> None:
    scores = registry.load(dense(), "cpu").score(rows())
    np.testing.assert_allclose(scores.explain(np.arange(3)).sum(axis=0) / 4, scores.values, rtol=1e-5)


def test_windows_are_scored_by_the_mean_squared_error_of_all_their_numbers() -> None:
    fitted = windows()
    values = np.random.default_rng(0).normal(size=(5, 9, 2))
    made = network({**fitted.described["network"], "shape": (2, 9)})
    made.load_state_dict({name: torch.tensor(fitted.tensors[f"network.{name}"]) for name in made.state_dict()})
    sent = torch.tensor(values.transpose(0, 2, 1), dtype=torch.float32)
    expected = [nn.functional.mse_loss(made(row[None]), row[None]).item() for row in sent]
    scoring = registry.load(fitted, "cpu")
    scores = scoring.score(Table(5, arrays={"w": values}))
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5)
    assert scoring.features == ("w",)
    np.testing.assert_array_equal(scores.explain(np.array([3])), scores.values[None, [3]])


def test_windows_of_another_shape_have_no_score() -> None:
    scores = registry.load(windows(), "cpu").score(Table(2, arrays={"w": np.zeros((2, 8, 2))}))
    assert np.isnan(scores.values).all()
    assert not scores.explain(np.array([0])).any()


def test_a_batch_larger_than_one_pass_is_scored_in_parts_to_the_same_numbers() -> None:
    scoring = registry.load(windows(), "cpu")
    values = np.random.default_rng(0).normal(size=(1300, 9, 2))
    whole = scoring.score(Table(1300, arrays={"w": values})).values
    halves = [scoring.score(Table(650, arrays={"w": half})).values for half in np.split(values, 2)]
    assert whole.tolist() == np.concatenate(halves).tolist()


@pytest.mark.parametrize(
    ("fitted", "changed", "why"),
    [
        (
            dense(),
            {"weights.1": np.ones((3, 1), np.float32)},
            r"layer 1 of these weights is \(3, 1\) with \(4,\) biases",
        ),
        (dense(), {"precisions": np.ones(3, np.float32)}, "4 outputs for 4 inputs"),
        (dense(), {"weights.0": None}, "lack a part"),
        (dense(), {"transform.means": np.zeros(3)}, "2 numeric columns have 3 means"),
        (windows(), {"network.squeeze.weight": np.ones((3, 5), np.float32)}, "do not fit each other"),
        (windows(), {"network.leave.bias": None}, "lack a part"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fitted: Fitted, changed: dict[str, object], why: str) -> None:
    tensors = {k: v for k, v in {**fitted.tensors, **changed}.items() if v is not None}
    with pytest.raises(ValueError, match=why):
        registry.load(replace(fitted, tensors=tensors), "cpu")


def test_a_network_of_another_version_is_refused() -> None:
    described = {**windows().described, "network": {"network": "transformer"}}
    with pytest.raises(ValueError, match="'transformer' is not known to this version"):
        registry.load(replace(windows(), described=described), "cpu")


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 11, 9), (1, 1, 1), (2, 24), (1, 5)])
def test_a_convolution_gives_back_the_shape_it_was_given(shape: tuple[int, ...]) -> None:
    made = network({"network": "convolutional", "shape": shape, "filters": [4, 8], "code": 3, "bounded": True})
    out = made(torch.zeros(2, *shape))
    assert out.shape == (2, *shape)
    assert 0 <= out.min() <= out.max() <= 1


@pytest.mark.cuda
@pytest.mark.parametrize("fitted", [dense(), windows()])
def test_cuda_gives_the_scores_of_the_processor_to_single_precision(fitted: Fitted) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    table = (
        rows()
        if "a" in str(fitted.described["transform"].get("numeric"))
        else Table(3, arrays={"w": np.ones((3, 9, 2))})
    )
    on_gpu, on_processor = registry.load(fitted, "auto"), registry.load(fitted, "cpu")
    np.testing.assert_allclose(on_gpu.score(table).values, on_processor.score(table).values, rtol=1e-3)
