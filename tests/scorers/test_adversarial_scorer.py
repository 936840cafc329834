from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pretended_cuda import PretendedCuda

from streamd.scorers.adversarial.architecture import Architecture, Family
from streamd.scorers.adversarial.convolutional import halvings
from streamd.scorers.adversarial.layers import Dense, Discriminator, Linear, Trunk, plain, plain_discriminator
from streamd.scorers.adversarial.scorer import AdversarialScorer, Method
from streamd.scorers.arrays import ArrayTransform, Reads
from streamd.scorers.ferry import Ferry
from streamd.scorers.fitted import Fitted, from_bytes, to_bytes
from streamd.scorers.lanes import PLAIN_RUNS, CudaLane
from streamd.scorers.registry import load
from streamd.scorers.transform import Transform
from streamd.table import Table

METHODS: tuple[Method, ...] = ("encoder", "search", "discriminator")
SHAPES: dict[Family, tuple[int, ...]] = {"dense": (13,), "dcgan": (1, 11, 9), "lstm": (2, 6)}


def transform_of(family: Family, shape: tuple[int, ...]) -> Transform | ArrayTransform:
    if family == "dense":
        return Transform(tuple(f"f{i}" for i in range(shape[0])), np.zeros(shape[0]), np.ones(shape[0]), (), 10.0)
    reads: Reads = "images" if family == "dcgan" else "windows"
    sent = shape[1:] if family == "dcgan" else shape[::-1]
    channels = shape[0]
    return ArrayTransform("seen", reads, sent, np.zeros(channels), np.ones(channels), np.zeros(channels), 10.0)


def random_weights(network: torch.nn.Module, prefix: str, rng: np.random.Generator) -> dict[str, Any]:
    return {
        f"{prefix}.{name}": (rng.normal(size=tensor.shape) / max(1, tensor[0].numel()) ** 0.5).astype(np.float32)
        for name, tensor in network.state_dict().items()
    }


def made(family: Family, method: Method, shape: tuple[int, ...] | None = None, alpha: float = 0.5) -> Fitted:
    """A scorer with weights at random: what it says is nonsense, and has to be the same nonsense every time."""
    architecture = Architecture(family, shape or SHAPES[family], latent=4, units=8)
    rng = np.random.default_rng(0)
    transform = transform_of(family, architecture.shape)
    tensors = {
        **transform.tensors(),
        **random_weights(architecture.discriminator(), "discriminator", rng),
        **random_weights(architecture.generator(), "generator", rng),
        **random_weights(architecture.encoder(8), "encoder", rng),
        "starts": rng.normal(size=(4, 5)).astype(np.float32),
    }
    described = {
        "transform": transform.described(),
        "architecture": architecture.described(),
        "method": method,
        "norm": "l2",
        "alpha": alpha,
        "codes": 8,
        "steps": 7,
        "step_size": 0.1,
    }
    return Fitted("adversarial", described, tensors, np.zeros(3), 1.0, "")


def table_of(fitted: Fitted, rows: int) -> Table:
    shape = tuple(fitted.described["architecture"]["shape"])
    family: Family = fitted.described["architecture"]["family"]
    if family == "dense":
        values = np.random.default_rng(1).normal(size=(rows, *shape))
        return Table(rows, {f"f{i}": np.ascontiguousarray(values[:, i]) for i in range(shape[0])})
    sent = shape[1:] if family == "dcgan" else shape[::-1]
    return Table(rows, arrays={"seen": np.random.default_rng(1).normal(size=(rows, *sent))})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", SHAPES)
def test_the_score_of_a_row_does_not_depend_on_the_rows_beside_it(family: Family, method: Method) -> None:
    fitted = made(family, method)
    scorer, table = load(fitted, "cpu"), table_of(fitted, 80)
    together = scorer.score(table).values
    assert len(set(together.tolist())) == 80
    for first, count in ((0, 1), (5, 1), (2, 3), (3, 7), (7, 33), (1, 79)):
        alone = scorer.score(table.take(np.arange(first, first + count))).values
        assert alone.tolist() == together[first : first + count].tolist(), (first, count)


@pytest.mark.parametrize("inputs", [1, 2, 5, 32])
@pytest.mark.parametrize("method", METHODS)
def test_neither_does_it_where_there_are_few_columns_or_many(inputs: int, method: Method) -> None:
    fitted = made("dense", method, (inputs,))
    scorer, table = load(fitted, "cpu"), table_of(fitted, 300)
    together = scorer.score(table).values
    for count in (1, 2, 6, 15, 64, 255, 256):
        alone = scorer.score(table.take(np.arange(3, 3 + count))).values
        assert alone.tolist() == together[3 : 3 + count].tolist(), count


def test_a_single_output_is_that_of_a_plain_product() -> None:
    layer = Linear(5, 1)
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(1, 5)).astype(np.float32), rng.normal(size=(5, 9)).astype(np.float32)
    layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.tensor([0.25])})
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach(), weights @ x + 0.25, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(13, 8, 8, 4), (1, 8, 1), (5, 1, 1, 2), (4, 3)])
@pytest.mark.parametrize("count", [2, 7, 256])
def test_without_modules_dense_layers_give_the_same_numbers(sizes: tuple[int, ...], count: int) -> None:
    rng = np.random.default_rng(0)
    network, judging = Dense(sizes), Discriminator(Trunk(sizes))
    for each in (network, judging):
        weights = random_weights(each, "of", rng)
        each.load_state_dict({name.removeprefix("of."): torch.from_numpy(tensor) for name, tensor in weights.items()})
    rows = torch.from_numpy(rng.normal(size=(sizes[0], count)).astype(np.float32))
    before = rows.clone()
    assert torch.equal(plain(network)(rows), network(rows))
    assert torch.equal(plain_discriminator(judging)(rows), judging(rows))
    assert torch.equal(plain_discriminator(judging).features(rows), judging.features(rows))
    assert torch.equal(rows, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "method"),
    [*((family, method) for family in SHAPES for method in ("encoder", "discriminator")), ("dense", "search")],
)
def test_streams_and_graphs_change_no_digit_of_a_score(family: Family, method: Method) -> None:
    fitted, cuda = made(family, method), PretendedCuda()
    plainly, by_streams = load(fitted, "cpu"), load(fitted, "cpu")
    assert isinstance(by_streams, AdversarialScorer)
    by_streams._ferry = Ferry("cpu", -1, 16, lane=CudaLane(torch.device("cpu"), cuda))
    table = table_of(fitted, 100)
    for batch in range(PLAIN_RUNS + 2):
        taken = table.take(np.arange(batch, batch + 40))  # three parts, the last filled up
        with cuda:
            values = by_streams.score(taken).values
        assert values.tolist() == plainly.score(taken).values.tolist()
    assert cuda.races == []
    assert "computing: replays" in cuda.log


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", SHAPES)
def test_what_is_read_from_bytes_scores_as_before(family: Family, method: Method) -> None:
    fitted = made(family, method)
    table = table_of(fitted, 20)
    data = to_bytes(fitted)
    again = from_bytes(data)
    assert to_bytes(again) == data
    before, after = (load(each, "cpu").score(table) for each in (fitted, again))
    assert after.values.tolist() == before.values.tolist()
    asked = np.array([3, 0, 19])
    np.testing.assert_array_equal(after.explain(asked), before.explain(asked))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 5, 30), (2, 1, 1), (1, 33, 17)])
def test_images_of_any_size_come_back_in_their_size(shape: tuple[int, ...]) -> None:
    architecture = Architecture("dcgan", shape, latent=3, units=2)
    inputs = shape[0] * shape[1] * shape[2]
    assert architecture.generator()(torch.zeros(3, 5)).shape == (inputs, 5)
    assert architecture.encoder(7)(torch.zeros(inputs, 5)).shape == (7, 5)
    assert architecture.discriminator()(torch.zeros(inputs, 5)).shape == (5,)
    assert -(-max(shape[1:]) // 2 ** halvings(*shape[1:])) <= 8


def test_windows_come_back_in_their_length() -> None:
    architecture = Architecture("lstm", (3, 7), latent=2, units=4)
    assert architecture.generator()(torch.zeros(2, 5)).shape == (21, 5)
    assert architecture.encoder(2)(torch.zeros(21, 5)).shape == (2, 5)
    assert architecture.discriminator()(torch.zeros(21, 5)).shape == (5,)


def test_no_rows_have_no_scores_and_a_row_without_values_has_none() -> None:
    fitted = made("dense", "encoder")
    scorer, table = load(fitted, "cpu"), table_of(fitted, 3)
    nothing = scorer.score(table.take(np.arange(0)))
    assert nothing.values.shape == (0,)
    assert nothing.explain(np.zeros(0, np.int64)).shape == (13, 0)
    table.numeric["f0"][1] = np.nan  # one missing value is none
    for column in table.numeric.values():
        column[2] = np.nan
    assert np.isnan(scorer.score(table).values).tolist() == [False, False, True]
    assert np.isnan(scorer.score(Table(2, {"other": np.zeros(2)})).values).all()


@pytest.mark.parametrize("part", ["generator.head.weight", "encoder.head.bias", "discriminator.head.weight"])
def test_a_weight_that_is_missing_or_of_another_shape_is_refused(part: str) -> None:
    fitted = made("dense", "encoder")
    tensors = dict(fitted.tensors)
    del tensors[part]
    changed = {**fitted.tensors, part: np.zeros((3, 3), np.float32)}
    for broken in (tensors, changed):
        with pytest.raises(ValueError, match="weights do not fit"):
            load(Fitted("adversarial", fitted.described, broken, np.zeros(1), 1.0, ""), "cpu")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("method", "guess"),
        ("architecture", {"family": "dense", "shape": [12], "latent": 4, "units": 8}),
        ("architecture", {"family": "transformer", "shape": [13], "latent": 4, "units": 8}),
        ("architecture", {"family": "dense", "shape": [13], "latent": 0, "units": 8}),
        ("architecture", {}),
        ("transform", {}),
    ],
)
def test_a_description_that_does_not_fit_is_refused(key: str, value: Any) -> None:
    fitted = made("dense", "encoder")
    with pytest.raises(ValueError, match=r".+"):
        load(Fitted("adversarial", {**fitted.described, key: value}, fitted.tensors, np.zeros(1), 1.0, ""), "cpu")


@pytest.mark.cuda
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", SHAPES)
def test_cuda_gives_the_scores_of_the_processor_to_single_precision(family: Family, method: Method) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    fitted = made(family, method)
    on_gpu, on_processor = load(fitted, "cuda"), load(fitted, "cpu")
    for count in (64, 1, 200, 17):  # the pinned buffer grows, and serves smaller batches after that
        table = table_of(fitted, count)
        np.testing.assert_allclose(on_gpu.score(table).values, on_processor.score(table).values, rtol=2e-3, atol=1e-4)
        assert on_gpu.score(table).values.tolist() == on_gpu.score(table).values.tolist()
