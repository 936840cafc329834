"""The records that the engine and the daemon are measured with: healthy features and logits of ten streams."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from streamd.codec.encode import encode_features
from streamd.model import Header

ROWS, FEATURES, CLASSES, STREAMS, REFERENCE_ROWS, PARTS = 256, 32, 2, 10, 2000, 4
DISTINCT = 200  # batches; they are sent again and again
T0 = 1_763_769_600_000  # 2025-11-22
NAMES = [f"f{i}" for i in range(FEATURES)]
Format = Literal["json", "arrow"]

# What the targets are about. Short fits: what the network has learned makes no difference to its speed.
DETECTORS = {
    "ks": {},
    "zscore": {},
    "entropy": {},
    "autoencoder": {"steps_max": 100},
    "chi2": None,
    "quality": None,
}


class Message(NamedTuple):
    """A record on its way to Kafka."""

    stream: int
    key: bytes
    value: bytes
    headers: tuple[Header, ...]


def references(form: Format) -> list[Message]:
    """What is normal for each stream, in parts that are smaller than what a broker takes by default."""
    rng = np.random.default_rng(1)
    return [
        _message(rng, stream, REFERENCE_ROWS // PARTS, form, T0, role="reference", part=(part + 1, PARTS))
        for stream in range(STREAMS)
        for part in range(PARTS)
    ]


def batches(form: Format, count: int = DISTINCT) -> list[Message]:
    """The streams' batches in turn."""
    rng = np.random.default_rng(2)
    return [_message(rng, i % STREAMS, ROWS, form, T0 + 1000 * i) for i in range(count)]


def _message(rng: np.random.Generator, stream: int, rows: int, form: Format, ts_ms: int, **more: Any) -> Message:
    name = f"fraud/{stream}"
    features, logits = rng.normal(size=(rows, FEATURES)), rng.normal(size=(rows, CLASSES))
    value, headers = encode_features(name, features, names=NAMES, logits=logits, ts_ms=ts_ms, format=form, **more)
    return Message(stream, name.encode(), value, tuple(headers))
