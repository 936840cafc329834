"""Records for tests: JSON batches with what a test cares about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streamd.model import Envelope

T0 = 1_763_769_600_000  # 2025-11-22
TOPIC = "streamd.features"


class Producer:
    """Makes the records of one partition, one second apart."""

    def __init__(self, topic: str = TOPIC, partition: int = 0) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = 0

    def record(
        self, value: bytes | None, *, key: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Envelope:
        """One record of any bytes."""
        envelope = Envelope(
            self.topic,
            self.partition,
            self.offset,
            T0 + 1000 * self.offset,
            key,
            value,
            tuple((name, text.encode()) for name, text in (headers or {}).items()),
        )
        self.offset += 1
        return envelope

    def batch(
        self,
        features: Mapping[str, Sequence[Any]],
        *,
        stream: str = "fraud/7",
        role: str | None = None,
        part: str | None = None,
        **more: Any,
    ) -> Envelope:
        """A feature batch, by columns."""
        headers = {name: text for name, text in {"streamd-role": role, "streamd-part": part}.items() if text}
        value = orjson.dumps(
            {"stream": stream, "features": {k: list(v) for k, v in features.items()}, **more},
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        return self.record(value, key=stream.encode(), headers=headers)
