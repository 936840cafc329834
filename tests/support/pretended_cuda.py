"""`torch.cuda`'s streams, events and graphs on the processor; they find accesses to memory that nothing puts in order.

Work is done as soon as it is queued. What a GPU would be free to do in another order is found by vector clocks: of
two accesses to the same bytes, one of them a write, the earlier has to be known to the later's timeline.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PROCESSOR = "processor"


class Access(NamedTuple):
    timeline: str
    first: int  # byte
    last: int
    writes: bool


class Touched(NamedTuple):
    """One storage, kept so that its address is not given to other memory, and the last tick of each access."""

    memory: torch.UntypedStorage
    ticks: dict[Access, int]


class Timeline:
    """The processor, or a stream: what it knows to be done, by the ticks of all timelines."""

    def __init__(self, cuda: PretendedCuda, name: str) -> None:
        self.name = name
        self.clock: dict[str, int] = {}
        self._cuda = cuda

    def learn(self, clock: dict[str, int]) -> None:
        for name, tick in clock.items():
            self.clock[name] = max(self.clock.get(name, 0), tick)

    def wait_event(self, event: Event) -> None:
        self._cuda.log.append(f"{self.name}: waits" if event.clock else f"{self.name}: need not wait")
        self.learn(event.clock)

    def wait_stream(self, stream: Timeline) -> None:
        self.learn(stream.clock)


class Event:
    def __init__(self, cuda: PretendedCuda) -> None:
        self.clock: dict[str, int] = {}
        self._cuda = cuda

    def record(self, stream: Timeline) -> None:
        self._cuda.log.append(f"{stream.name}: records")
        self.clock = dict(stream.clock)

    def synchronize(self) -> None:
        self._cuda.log.append(f"{PROCESSOR}: waits")
        self._cuda.processor.learn(self.clock)
        self._cuda.forget()


class Graph:
    """The operators that were called while it was captured, on the memory that they were called on."""

    def __init__(self, cuda: PretendedCuda) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._cuda = cuda

    def pool(self) -> object:
        return self

    def replay(self) -> None:
        self._cuda.log.append(f"{self._cuda.current.name}: replays")
        for function, args, kwargs, results in self.calls:
            for known, new in zip(tensors(results), tensors(function(*args, **kwargs)), strict=True):
                if known.data_ptr() != new.data_ptr():
                    known.copy_(new)
        for result in tensors(self.calls[-1][3]):
            result.add_(self._cuda.drift)


class PretendedCuda(TorchDispatchMode):
    """Stands in for `torch.cuda`; entered, it watches what torch does.

    Attributes:
        log: "timeline: what", in the order of the calls.
        races: what nothing put in order.
        broken: what a capture ends in.
        drift: what is added to the results of a graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.races: list[str] = []
        self.broken: Exception | None = None
        self.drift = 0.0
        self.graphs: list[Graph] = []
        self.processor = Timeline(self, PROCESSOR)
        self._streams: list[Timeline] = []
        self._within = [self.processor]
        self._touched: dict[int, Touched] = {}
        self._capturing: Graph | None = None

    @property
    def current(self) -> Timeline:
        return self._within[-1]

    def forget(self) -> None:
        """What the processor knows to be done is before all that is queued from now on."""
        known = self.processor.clock
        for address, (_, ticks) in list(self._touched.items()):
            if all(tick <= known.get(access.timeline, 0) for access, tick in ticks.items()):
                del self._touched[address]

    @property
    def waits(self) -> int:
        """How often the processor waited."""
        return self.log.count(f"{PROCESSOR}: waits")

    def Stream(self, device: torch.device) -> Timeline:
        self._streams.append(Timeline(self, ("uploading", "computing")[len(self._streams)]))
        return self._streams[-1]

    def Event(self) -> Event:
        return Event(self)

    def CUDAGraph(self) -> Graph:
        self.graphs.append(Graph(self))
        return self.graphs[-1]

    def current_stream(self, device: torch.device) -> Timeline:
        return self.current

    def empty_cache(self) -> None:
        self.log.append("the device's memory is given back")

    @contextmanager
    def stream(self, stream: Timeline) -> Iterator[None]:
        self._within.append(stream)
        try:
            yield
        finally:
            self._within.pop()

    @contextmanager
    def graph(self, graph: Graph, *, pool: object, stream: Timeline, capture_error_mode: str) -> Iterator[None]:
        self._capturing = graph
        try:
            with self.stream(stream):
                yield
        finally:
            self._capturing = None
        if self.broken is not None:
            raise self.broken
        for _, _, _, results in graph.calls:  # nothing has run yet
            for result in tensors(results):
                if result.is_floating_point():
                    result.fill_(torch.nan)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        results = function(*args, **kwargs)
        schema = function._schema
        writes = any(each.alias_info is not None and each.alias_info.is_write for each in schema.arguments)
        sent = {each.untyped_storage().data_ptr() for each in tensors((args, kwargs))}
        # What the schema calls a view may be a copy: reshape is both.
        views = not writes and all(each.untyped_storage().data_ptr() in sent for each in tensors(results))
        if self._capturing is not None:
            if not views:
                self._capturing.calls.append((function, args, kwargs, results))
        elif not views:
            self._queued(function, schema, args, kwargs)
        return results

    def _queued(self, function: Any, schema: Any, args: Any, kwargs: Any) -> None:
        timeline = self.current
        if timeline is not self.processor:
            timeline.learn(self.processor.clock)  # it is queued after all that the processor did
        timeline.clock[timeline.name] = timeline.clock.get(timeline.name, 0) + 1
        name = function._schema.name.removeprefix("aten::")
        self.log.append(f"{timeline.name}: {name}")
        for i, argument in enumerate(schema.arguments):
            writes = argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tensors(args[i] if i < len(args) else kwargs.get(argument.name)):
                self._accessed(name, timeline, tensor, writes)

    def _accessed(self, name: str, timeline: Timeline, tensor: torch.Tensor, writes: bool) -> None:
        memory = tensor.untyped_storage()
        size = tensor.element_size()
        first = memory.data_ptr() + size * tensor.storage_offset()
        last = first + size * sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
        ticks = self._touched.setdefault(memory.data_ptr(), Touched(memory, {})).ticks
        for other, tick in ticks.items():
            meet = other.first <= last and first <= other.last and (writes or other.writes)
            if meet and tick > timeline.clock.get(other.timeline, 0):
                self.races.append(f"{timeline.name}'s {name} and what {other.timeline} did before")
        ticks[Access(timeline.name, first, last, writes)] = timeline.clock[timeline.name]


def tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]
