from __future__ import annotations

import numpy as np
import pytest
import torch

from streamd.scorers.ferry import Ferry


def small_device(room: int, axis: int) -> object:
    """A forward pass that has room for so many rows."""

    def forward(rows: torch.Tensor) -> torch.Tensor:
        if rows.shape[axis] > room:
            raise torch.OutOfMemoryError("out of memory")
        return rows * 2

    return forward


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [3, 7, 16, 17, 100])
def test_where_memory_does_not_do_smaller_batches_give_the_same_and_it_is_said(axis: int, count: int) -> None:
    rows = np.arange(5 * count, dtype=np.float32).reshape((count, 5) if axis == 0 else (5, count))
    ferry = Ferry("cpu", axis, rows_max=1000)
    np.testing.assert_array_equal(ferry.carry(small_device(4, axis), rows), rows * 2)  # type: ignore[arg-type]
    assert ferry.shrunk == (count > 4)
    assert ferry.rows_max == (1000 if count <= 4 else {7: 4, 16: 4, 17: 3, 100: 4}[count])


def test_a_device_without_room_for_two_rows_is_given_up() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Ferry("cpu", 0, 1000).carry(small_device(0, 0), np.zeros((9, 2), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3, 4, 10])
def test_parts_that_are_filled_up_are_all_of_one_size(count: int) -> None:
    sizes = []

    def forward(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return rows[:, 0]

    rows = np.arange(count, dtype=np.float32)[:, None]
    assert Ferry("cpu", 0, rows_max=4, filled=True).carry(forward, rows).tolist() == list(range(count))
    assert set(sizes) == {4}


@pytest.mark.cuda
def test_cuda_that_runs_out_of_memory_goes_on_in_parts() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    free = torch.cuda.mem_get_info()[0]
    rows = np.ones((64, 1024), np.float32)
    each = free // 32 // 4  # floats that a row needs on the way: half of the batch fits

    def forward(sent: torch.Tensor) -> torch.Tensor:
        torch.empty((len(sent), each), device=sent.device)
        return sent.sum(dim=1)

    ferry = Ferry("cuda", 0, rows_max=1000)
    assert ferry.carry(forward, rows).tolist() == [1024] * 64
    assert ferry.shrunk
