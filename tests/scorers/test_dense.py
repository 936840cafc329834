from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from pretended_cuda import PretendedCuda

from streamd.scorers.dense import SLOPE, DenseAutoencoder, Layer, layer_widths
from streamd.scorers.ferry import Ferry
from streamd.scorers.lanes import CudaLane


def layers(inputs: int, seed: int = 0) -> list[Layer]:
    rng = np.random.default_rng(seed)
    sizes = layer_widths(inputs, (32, 16, 8))
    return [
        (rng.normal(size=(out, wide)).astype(np.float32) / wide**0.5, rng.normal(size=out).astype(np.float32))
        for wide, out in pairwise(sizes)
    ]


def rows(inputs: int, count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(inputs, count)).astype(np.float32)


def test_errors_are_those_of_a_plain_loop_in_double_precision() -> None:
    network, x = layers(12), rows(12, 40)
    hidden = x.astype(np.float64)
    for i, (weights, biases) in enumerate(network):
        hidden = weights.astype(np.float64) @ hidden + biases[:, None]
        if i + 1 < len(network):
            hidden = np.where(hidden > 0, hidden, SLOPE * hidden)
    expected = (hidden - x) ** 2
    squared, errors = DenseAutoencoder(network, "cpu").errors(x)
    np.testing.assert_allclose(squared, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(errors, expected.mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("inputs", [1, 2, 5, 32, 93])
def test_the_error_of_a_row_does_not_depend_on_the_rows_beside_it(inputs: int) -> None:
    network, x = DenseAutoencoder(layers(inputs), "cpu"), rows(inputs, 600)
    together = network.errors(x)[1]
    for count in [*range(1, 40), 255, 256, 257, 599]:
        alone = network.errors(np.ascontiguousarray(x[:, 1 : 1 + count]))[1]
        assert together[1 : 1 + count].tolist() == alone.tolist(), count


def test_the_input_is_left_as_it_was() -> None:
    x = rows(5, 10)
    before = x.copy()
    DenseAutoencoder(layers(5), "cpu").errors(x)
    np.testing.assert_array_equal(x, before)


def test_errors_that_came_by_streams_and_graphs_are_the_same_and_stay() -> None:
    cuda = PretendedCuda()
    plainly, by_streams = DenseAutoencoder(layers(12), "cpu"), DenseAutoencoder(layers(12), "cpu")
    by_streams._ferry = Ferry("cpu", 1, 64, lane=CudaLane(torch.device("cpu"), cuda))
    x = rows(12, 300)
    batches = [np.ascontiguousarray(x[:, i : i + count]) for i, count in enumerate([60, 60, 60, 60, 1, 200, 60])]
    with cuda:
        kept = [by_streams.errors(batch) for batch in batches]
    for batch, (squared, errors) in zip(batches, kept, strict=True):
        expected = plainly.errors(batch)
        assert (squared.tolist(), errors.tolist()) == (expected[0].tolist(), expected[1].tolist())
    assert "computing: replays" in cuda.log
    assert cuda.races == []


def test_cuda_that_is_not_there_is_refused_when_it_is_asked_for() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises((RuntimeError, AssertionError)):
        DenseAutoencoder(layers(5), "cuda")
    assert DenseAutoencoder(layers(5), "auto").device.type == "cpu"


@pytest.mark.cuda
def test_cuda_gives_the_errors_of_the_processor_to_single_precision() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_gpu, on_processor = DenseAutoencoder(layers(32), "auto"), DenseAutoencoder(layers(32), "cpu")
    assert on_gpu.device.type == "cuda"
    for count in (256, 1, 1000, 17):  # the pinned buffer grows, and serves smaller batches after that
        x = rows(32, count)
        np.testing.assert_allclose(on_gpu.errors(x)[1], on_processor.errors(x)[1], rtol=1e-3)
        assert on_gpu.errors(x)[1].tolist() == on_gpu.errors(x)[1].tolist()
