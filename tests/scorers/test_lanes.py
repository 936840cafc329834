from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pretended_cuda import PretendedCuda

from streamd.scorers.ferry import Ferry
from streamd.scorers.lanes import GRAPHS_MAX, PLAIN_RUNS, SHAPES_MAX, CudaLane, Part, ProcessorLane

CPU = torch.device("cpu")
WEIGHTS = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32))


def forward(rows: torch.Tensor) -> torch.Tensor:
    """(5, rows) → (3, rows), by operators that make new memory and one that does not."""
    return torch.relu_(torch.mm(WEIGHTS, rows)) * 2


def parts(count: int, rows: int = 4, seed: int = 1) -> list[Part]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(5, rows)).astype(np.float32) for _ in range(count)]


def same(found: list[Part], sent: list[Part], ask: Callable[[torch.Tensor], torch.Tensor] = forward) -> bool:
    expected = ProcessorLane().go(ask, sent)
    return [each.tobytes() for each in found] == [each.tobytes() for each in expected]


def test_a_part_is_staged_uploaded_waited_for_worked_on_and_received_and_the_processor_waits_once() -> None:
    cuda = PretendedCuda()
    lane = CudaLane(CPU, cuda)
    with cuda:
        lane.go(forward, parts(1))
    assert [line for line in cuda.log if "empty" not in line] == [
        "processor: copy_",
        "uploading: need not wait",
        "uploading: copy_",
        "uploading: records",
        "computing: waits",
        "computing: mm",
        "computing: relu_",
        "computing: mul",
        "computing: records",
        "computing: copy_",
        "computing: records",
        "processor: waits",
        "processor: clone",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_no_two_streams_touch_the_same_memory_unordered_and_each_batch_is_waited_for_once(count: int) -> None:
    cuda = PretendedCuda()
    lane = CudaLane(CPU, cuda)
    for batch in range(PLAIN_RUNS + 3):
        sent = parts(count, seed=batch)
        with cuda:
            found = lane.go(forward, sent)
        assert same(found, sent)
        assert cuda.waits == batch + 1 + len(cuda.graphs)  # once more when a graph is tried
    assert cuda.races == []
    assert len(cuda.graphs) == min(count, 2)  # one of each slot
    assert cuda.log.count("computing: replays") >= len(cuda.graphs) + count  # and they are in use


def test_a_part_is_uploaded_while_the_one_before_it_is_worked_on_and_waits_for_the_one_before_that() -> None:
    cuda = PretendedCuda()
    with cuda:
        CudaLane(CPU, cuda).go(forward, parts(5))
    waits = [line for line in cuda.log if line.startswith("uploading:") and "wait" in line]
    assert waits == ["uploading: need not wait"] * 2 + ["uploading: waits"] * 3
    last_upload = max(i for i, line in enumerate(cuda.log) if line == "uploading: copy_")
    assert last_upload < cuda.log.index("processor: waits")


def test_results_are_the_callers_own() -> None:
    lane = CudaLane(CPU, PretendedCuda())
    first, *_ = lane.go(forward, parts(1))
    before = first.copy()
    lane.go(forward, parts(1, seed=9))
    np.testing.assert_array_equal(first, before)


def test_a_question_that_comes_again_and_again_is_captured_and_asked_no_more() -> None:
    cuda, asked = PretendedCuda(), []

    def counted(rows: torch.Tensor) -> torch.Tensor:
        asked.append(rows)
        return forward(rows)

    lane = CudaLane(CPU, cuda)
    for batch in range(10):
        sent = parts(1, seed=batch)
        with cuda:
            assert same(lane.go(counted, sent), sent)
    assert len(asked) == PLAIN_RUNS + 1
    assert cuda.log.count("computing: replays") == 1 + 10 - PLAIN_RUNS
    with cuda:
        assert same(lane.go(counted, parts(1, rows=8)), parts(1, rows=8))  # of another shape
        assert same(lane.go(torch.neg, parts(1)), parts(1), torch.neg)  # another question
    assert cuda.races == []


def test_slots_that_grow_leave_a_captured_pass_its_own_memory() -> None:
    cuda = PretendedCuda()
    lane = CudaLane(CPU, cuda)
    for batch in range(PLAIN_RUNS):
        with cuda:
            lane.go(forward, parts(1, seed=batch))
    for rows, seed in ((64, 5), (4, 6), (128, 7), (4, 8)):
        sent = parts(1, rows, seed)
        with cuda:
            assert same(lane.go(forward, sent), sent)
    assert cuda.log.count("computing: replays") == 3
    assert cuda.races == []


def test_a_graph_whose_results_are_not_those_of_the_plain_pass_is_not_used() -> None:
    cuda = PretendedCuda()
    cuda.drift = 1e-6
    lane = CudaLane(CPU, cuda)
    for batch in range(8):
        sent = parts(1, seed=batch)
        with cuda:
            assert same(lane.go(forward, sent), sent)
    assert cuda.log.count("computing: replays") == len(cuda.graphs) == 1


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted"), torch.OutOfMemoryError("out of memory")])
def test_where_nothing_can_be_captured_plain_passes_do(error: Exception) -> None:
    cuda = PretendedCuda()
    cuda.broken = error
    lane = CudaLane(CPU, cuda)
    for batch in range(8):
        for rows in (2, 4):
            sent = parts(2, rows, seed=batch)
            with cuda:
                assert same(lane.go(forward, sent), sent)
    assert len(cuda.graphs) == 1  # it is not tried again
    assert cuda.current is cuda.processor


def test_so_many_shapes_are_captured_and_no_more() -> None:
    cuda = PretendedCuda()
    lane = CudaLane(CPU, cuda)
    for rows in range(1, GRAPHS_MAX + 10):
        for _ in range(PLAIN_RUNS + 1):
            with cuda:
                assert same(lane.go(forward, parts(1, rows)), parts(1, rows))
    assert len(cuda.graphs) == GRAPHS_MAX


@pytest.mark.parametrize("count", [3, 6, 17, 100])
def test_where_memory_does_not_do_what_is_under_way_is_waited_for_and_smaller_batches_follow(count: int) -> None:
    cuda = PretendedCuda()

    def small(rows: torch.Tensor) -> torch.Tensor:
        if rows.shape[1] > 4:
            raise torch.OutOfMemoryError("out of memory")
        return forward(rows)

    ferry = Ferry("cpu", 1, rows_max=64, lane=CudaLane(CPU, cuda))
    (rows,) = parts(1, count)
    with cuda:
        found = ferry.carry(small, rows)
    assert same([found], [rows])
    assert ferry.shrunk == (count > 4)
    assert cuda.races == []
    assert cuda.log.count("the device's memory is given back") == cuda.waits - 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 31, 32, 33, 100])
def test_rows_are_filled_up_to_a_power_of_two_and_come_back_without_what_was_filled_in(count: int) -> None:
    shapes = []

    def seen(rows: torch.Tensor) -> torch.Tensor:
        shapes.append(rows.shape[1])
        return forward(rows)

    (rows,) = parts(1, count)
    ferry = Ferry("cpu", 1, rows_max=64, lane=CudaLane(CPU, PretendedCuda()))
    found = ferry.carry(seen, rows)
    np.testing.assert_allclose(found, ProcessorLane().go(forward, [rows])[0], rtol=1e-5, atol=1e-6)
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert set(shapes) == {min(64, max(2, 2 ** (count - 1).bit_length()))}


@pytest.mark.cuda
@pytest.mark.parametrize("count", [1, 2, 5])
def test_cuda_waits_for_nothing_but_the_results_and_graphs_change_no_digit(count: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    weights = WEIGHTS.cuda()

    def there(rows: torch.Tensor) -> torch.Tensor:
        return torch.relu_(torch.mm(weights, rows)) * 2

    lane = CudaLane(torch.device("cuda"))
    sent = parts(count, 256)
    plain = lane.go(there, sent)
    for _ in range(PLAIN_RUNS):
        lane.go(there, sent)
    assert lane._graphs
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        replayed = [lane.go(there, sent) for _ in range(20)]
    finally:
        torch.cuda.set_sync_debug_mode(before)
    for each in replayed:
        assert [part.tobytes() for part in each] == [part.tobytes() for part in plain]
    np.testing.assert_allclose(plain[0], ProcessorLane().go(forward, sent)[0], rtol=1e-4, atol=1e-5)


def test_on_the_processor_sums_are_made_by_one_thread_whoever_asks() -> None:
    """The daemon sets it at its start; `streamd evaluate`, which does not, has to come to the same digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ProcessorLane()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_sizes_that_never_come_again_are_not_remembered_for_ever() -> None:
    cuda = PretendedCuda()
    lane = CudaLane(CPU, cuda)
    with cuda:
        for rows in range(2, SHAPES_MAX + 12):
            lane.go(forward, parts(1, rows))
    assert len(lane._runs) <= SHAPES_MAX
