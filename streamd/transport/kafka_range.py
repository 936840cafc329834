"""Reads a stretch of a topic, without a group: what `streamd record` writes down. Nobody's place in the topic moves."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection, Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from streamd.errors import ConfigError, TransientError
from streamd.model import Envelope
from streamd.transport import kafka_auth
from streamd.transport.settings import KafkaSettings

Place = int | datetime.datetime
"""An offset (of every partition), or the first record at or after a time."""

_POLL_SECONDS = 0.25
_SILENCE_SECONDS = 10.0  # without a record although the end is not reached: the broker is away
_STRAGGLERS_SECONDS = 2.0


def parse_place(text: str) -> Place:
    """`1200` is an offset, `2026-11-22T08:00:00Z` a time (UTC unless it says otherwise). Raises ValueError."""
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither an offset (1200) nor a time (2026-11-22T08:00:00Z)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def read_range(
    settings: KafkaSettings,
    topic: str,
    start: Place | None,
    end: Place | None,
    partitions_only: Collection[int] | None = None,
) -> Iterator[Envelope]:
    """Every committed record from `start` to before `end`, partition by partition as they come.

    Args:
        start: None: the beginning of what retention has left.
        end: None: what is there now.
        partitions_only: None: all of them; one that is not there is left out.

    Raises ConfigError when there is no such topic, TransientError when the broker is away.
    """
    consumer = kafka_auth.build(
        KafkaConsumer,
        settings,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # where `start` has been removed by retention
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        metrics_enabled=False,
    )
    try:
        numbers = sorted(consumer.partitions_for_topic(topic))
        if not numbers:
            raise ConfigError(f"there is no topic {topic}")
        partitions = [TopicPartition(topic, n) for n in numbers if partitions_only is None or n in partitions_only]
        if not partitions:
            return
        consumer.assign(partitions)
        first = consumer.beginning_offsets(partitions)
        last = consumer.end_offsets(partitions)
        begin = first if start is None else _offsets(consumer, partitions, start, last)
        stop = last if end is None else _offsets(consumer, partitions, end, last)
        for partition in partitions:
            # Not past the end, where the client would begin anew from the beginning.
            consumer.seek(partition, min(max(begin[partition], first[partition]), last[partition]))
        reached = {p: min(stop[p], last[p]) for p in partitions}  # one partition may be shorter than another
        for record in _read(consumer, partitions, reached, open_ended=end is None):
            partition = TopicPartition(record.topic, record.partition)
            if record.offset >= begin[partition] and (end is None or record.offset < stop[partition]):
                yield record
    except kafka_errors.KafkaError as error:
        raise TransientError(f"reading {topic}: {type(error).__name__}: {error}") from error
    finally:
        consumer.close(autocommit=False, timeout_ms=1000)


def _offsets(consumer: Any, partitions: list[TopicPartition], place: Place, last: dict[Any, int]) -> dict[Any, int]:
    if isinstance(place, int):
        return dict.fromkeys(partitions, place)
    found = consumer.offsets_for_times(dict.fromkeys(partitions, int(place.timestamp() * 1000)))
    return {p: last[p] if found[p] is None else found[p].offset for p in partitions}


def _read(
    consumer: Any, partitions: list[TopicPartition], stop: dict[Any, int], *, open_ended: bool
) -> Iterator[Envelope]:
    heard_at = time.monotonic()
    reached_at: float | None = None
    while True:
        polled = consumer.poll(timeout_ms=int(_POLL_SECONDS * 1000))
        for records in polled.values():
            for r in records:
                yield Envelope(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers))
        now = time.monotonic()  # whoever takes the records may take his time: that is no silence of the broker
        if polled:
            heard_at = now
        left = [p for p in partitions if consumer.position(p) < stop[p]]
        consumer.pause(*(p for p in partitions if p not in left and not open_ended))
        if not left:
            # An end offset may be short of the last batch (Tansu's is): what is there still comes at once.
            reached_at = reached_at or now
            if not open_ended or not polled or now - reached_at > _STRAGGLERS_SECONDS:
                return
        elif now - heard_at > _SILENCE_SECONDS:
            raise TransientError(f"nothing came for {_SILENCE_SECONDS:g} s, and the end is not reached")
