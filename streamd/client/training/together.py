"""The ranks of a distributed training: all obey the same command at the same step. Needs torch."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import orjson
import torch
import torch.distributed as dist

from streamd.client.ranks import Alone, Ranks
from streamd.model import Command


class Together:
    """The ranks of `torch.distributed`, on a gloo group of their own, so that no device is waited for.

    ```
    step n      rank 0: says how many bytes of commands it has ──┐ (asynchronous: nobody waits)
                                                                 ▼
    step n + 1  everybody: reads the number that was said at n; if there are any, they follow at once
    ```

    So a command takes one step more than alone, and a step costs one message of 8 bytes that is there already.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self._group = dist.new_group(backend="gloo")
        self._announced: tuple[Any, torch.Tensor, bytes] | None = None

    def exchange(self, commands: Sequence[Command]) -> list[Command]:
        received = self._receive()
        payload = orjson.dumps(list(commands)) if self.rank == 0 and commands else b""
        size = torch.tensor([len(payload)], dtype=torch.int64)
        work = dist.broadcast(size, 0, group=self._group, async_op=True)
        self._announced = (work, size, payload)
        return received

    def _receive(self) -> list[Command]:
        if self._announced is None:
            return []
        (work, size, payload), self._announced = self._announced, None
        work.wait()
        if not int(size):
            return []
        data = torch.zeros(int(size), dtype=torch.uint8)
        if self.rank == 0:
            data.copy_(torch.frombuffer(bytearray(payload), dtype=torch.uint8))
        dist.broadcast(data, 0, group=self._group)
        return [Command(**fields) for fields in orjson.loads(bytes(data.tolist()))]

    def gather(self, item: Any) -> list[Any]:
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item, group=self._group)
        return items

    def close(self) -> list[Command]:
        # What was announced at the last step is still on its way; the others may be gone already.
        with contextlib.suppress(RuntimeError):
            return self._receive()
        return []


def find_ranks() -> Ranks:
    """The ranks of this training, if `torch.distributed` is in use. All of them must call it."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return Together()
    return Alone()
