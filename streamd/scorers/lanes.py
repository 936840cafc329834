"""How the parts of a batch go through a device: at once on the processor; by streams, events and graphs on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Forward = Callable[[torch.Tensor], torch.Tensor]
Part = NDArray[np.float32]
Key = tuple[Forward, int, tuple[int, ...]]  # what is asked, in which slot, about parts of which shape

FILLED_ROWS_MAX = 4096  # up to here a GPU mostly waits for launches, and does twice the rows in the same time
PLAIN_RUNS = 3  # before a graph is made: they are its warm-up, and what comes but once is worth none
SHAPES_MAX = 256  # whose runs are counted
GRAPHS_MAX = 32  # of one lane: every power of two up to 4096 in two slots, and then some
GRAPH_FLOATS_MAX = 1 << 22  # of one part: a graph keeps the memory of its pass


class Lane(Protocol):
    """The way to one device and back."""

    def filled(self, rows: int) -> int:
        """How many rows a part with so many had better be filled up to."""

    def go(self, forward: Forward, parts: Sequence[Part]) -> list[Part]:
        """What `forward` makes of each part on the device.

        Args:
            forward: asks nothing of the processor; its results for parts of one shape are of one shape.
            parts: one or more, contiguous, of one shape.

        Raises:
            torch.OutOfMemoryError: of this batch nothing is under way any more.
        """

    def clear(self) -> None:
        """Memory was exhausted: give back what can be given back."""


class ProcessorLane:
    """Nothing has to be brought anywhere. From the first one on torch uses one thread: sums are then made in the same
    order on every machine, and several threads only wait for each other on so little work."""

    def __init__(self) -> None:
        torch.set_num_threads(1)

    def filled(self, rows: int) -> int:
        return rows

    def go(self, forward: Forward, parts: Sequence[Part]) -> list[Part]:
        with torch.inference_mode():
            return [forward(torch.from_numpy(part)).numpy() for part in parts]

    def clear(self) -> None:
        pass


class CudaLane:
    """A GPU, on which two slots are used in turns: one part is uploaded while another is worked on.

        processor   stage 0, 1, 2 in pinned memory, queue all that is below                  wait, read
        uploading   up 0 ──┐        up 1 ──┐        up 2 (when slot 0 was read) ──┐
        computing          └─ pass 0, down 0 └─ pass 1, down 1                    └─ pass 2, down 2

    The streams wait for each other, by events; the processor waits once, for the results.

    A question that is asked again and again about parts of one shape becomes a CUDA graph, which is launched like a
    single kernel. It is used only where its first results are, bit for bit, those of the plain pass before it: a
    process that has just started has no graphs yet, and has to say the same.

    Args:
        device: the GPU.
        cuda: `torch.cuda`, or what stands in for it.
    """

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        pinned = device.type == "cuda"
        self._cuda, self._device = cuda, device
        self._uploading, self._computing = cuda.Stream(device), cuda.Stream(device)
        self._staged, self._received = _Memory("cpu", pinned), _Memory("cpu", pinned)
        self._slots = [_Slot(_Memory(device, False), cuda.Event(), cuda.Event()) for _ in range(2)]
        self._over = cuda.Event()
        self._runs: dict[Key, int] = {}
        self._graphs: dict[Key, _Graph] = {}
        self._capturing = True

    def filled(self, rows: int) -> int:
        return 1 << (rows - 1).bit_length() if rows <= FILLED_ROWS_MAX else rows

    def go(self, forward: Forward, parts: Sequence[Part]) -> list[Part]:
        with torch.inference_mode(), _deterministic():
            staged = self._staged.of(len(parts), *parts[0].shape)
            self._computing.wait_stream(self._cuda.current_stream(self._device))  # where the weights were written
            received: list[torch.Tensor] = []
            try:
                for i, part in enumerate(parts):
                    staged[i].copy_(torch.from_numpy(part))
                    outputs = self._passed((forward, i % 2, part.shape), staged[i])
                    with self._cuda.stream(self._computing):
                        received.append(self._received.of(len(parts), *outputs.shape)[i])
                        received[i].copy_(outputs, non_blocking=True)
            finally:
                self._wait()  # once a batch; after an error too, for uploads may still read pinned memory
            results = [each.clone().numpy() for each in received]  # the next batch is received in the same memory
            for i in range(max(0, len(parts) - 2), len(parts)):
                self._consider((forward, i % 2, parts[i].shape), results[i])
            return results

    def clear(self) -> None:
        self._graphs.clear()
        self._capturing = False
        for slot in self._slots:
            slot.memory.clear()
        self._cuda.empty_cache()

    def _passed(self, key: Key, staged: torch.Tensor) -> torch.Tensor:
        """Queue the upload of what is staged, and the pass; its results on the device."""
        forward, place, shape = key
        slot, graph = self._slots[place], self._graphs.get(key)
        with self._cuda.stream(self._uploading):
            inputs = graph.inputs if graph else slot.memory.of(*shape)
            self._uploading.wait_event(slot.read)
            inputs.copy_(staged, non_blocking=True)
            slot.sent.record(self._uploading)
        with self._cuda.stream(self._computing):
            self._computing.wait_event(slot.sent)
            outputs = graph.replayed() if graph else forward(inputs)
            slot.read.record(self._computing)
        return outputs

    def _consider(self, key: Key, expected: Part) -> None:
        """Capture a pass that has run often enough, while nothing else is under way; its inputs are in their slot."""
        forward, place, shape = key
        worth = self._capturing and np.prod(shape) <= GRAPH_FLOATS_MAX and len(self._graphs) < GRAPHS_MAX
        if not worth or key in self._graphs:
            return
        if len(self._runs) >= SHAPES_MAX:
            self._runs.clear()  # most of them never came again
        self._runs[key] = self._runs.get(key, 0) + 1
        if self._runs[key] != PLAIN_RUNS:
            return
        graph = self._cuda.CUDAGraph()
        # Passes never overlap, and the results of one leave in its stream before the next: one memory does for all.
        pool = next(iter(self._graphs.values())).graph.pool() if self._graphs else None
        try:
            with self._cuda.stream(self._computing):  # a capture that fails leaves its own stream current
                inputs = self._slots[place].memory.of(*shape)
                # thread_local: what other threads ask of the device meanwhile does not spoil the capture
                with self._cuda.graph(graph, pool=pool, stream=self._computing, capture_error_mode="thread_local"):
                    outputs = forward(inputs)
                captured = _Graph(graph, inputs, outputs)
                captured.replayed()
                self._wait()
                if outputs.cpu().numpy().tobytes() == expected.tobytes():
                    self._graphs[key] = captured
        except RuntimeError:  # it cannot be captured, or memory is out: plain passes do
            self._capturing = False

    def _wait(self) -> None:
        self._over.record(self._computing)
        self._over.synchronize()


class _Memory:
    """Floats at one address, until more are asked for than before."""

    def __init__(self, device: torch.device | str, pinned: bool) -> None:
        self._device, self._pinned = device, pinned
        self._floats = torch.empty(0)

    def of(self, *shape: int) -> torch.Tensor:
        size = int(np.prod(shape))
        if self._floats.numel() < size:
            self._floats = torch.empty(size, dtype=torch.float32, device=self._device, pin_memory=self._pinned)
        return self._floats[:size].view(shape)

    def clear(self) -> None:
        self._floats = torch.empty(0)


@dataclass(frozen=True)
class _Slot:
    """Where every other part is uploaded to. Its memory is the uploading stream's.

    Attributes:
        sent: the upload is done.
        read: the pass that read it is over.
    """

    memory: _Memory
    sent: Any
    read: Any


@dataclass(frozen=True)
class _Graph:
    """A captured pass. It reads and writes where it did when it was captured, and keeps that memory."""

    graph: Any
    inputs: torch.Tensor
    outputs: torch.Tensor

    def replayed(self) -> torch.Tensor:
        self.graph.replay()
        return self.outputs


def _deterministic() -> Any:
    """cuDNN's choices: the same at each run, and in single precision."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
