"""Finds the batch that kafka-python could not unpack (K5): a checksum that is wrong, a header key that is not UTF-8.

The client raises and then never gets past it: its next `poll` spins for ever on the half-read batch. It does not say
which batch it was either, so the place is read from the frames of the error's traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kafka import TopicPartition

_BATCH_RECORDS_MAX = 1_000_000  # a damaged header may claim any length: nobody writes so many records at once


@dataclass(frozen=True, slots=True)
class UnreadableBatch:
    """Where it is: the first offset that could not be read, and the first after the batch."""

    partition: TopicPartition
    offset: int
    next_offset: int
    let_go: Callable[[], None]
    """Makes the client forget what it has of the batch, so that it fetches again from its position."""


def find_unreadable(error: BaseException) -> UnreadableBatch | None:
    """The batch whose unpacking raised `error`, or None when the error came from elsewhere."""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == "_unpack_records":
            half_read, batch = frame.f_locals["self"], frame.f_locals.get("batch")
            offset = int(half_read.next_fetch_offset)
            after = int(getattr(batch, "next_offset", offset + 1))
            if not offset < after <= offset + _BATCH_RECORDS_MAX:
                after = offset + 1
            return UnreadableBatch(half_read.topic_partition, offset, after, half_read.drain)
        traceback = traceback.tb_next
    return None
