"""The records that the engine and the daemon are measured with: features and logits of ten streams."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

import numpy as np

from streamd.codec.encode import encode_features
from streamd.model import Header

ROWS, FEATURES, CLASSES, STREAMS, REFERENCE_ROWS, PARTS = 256, 32, 2, 10, 2000, 4
DISTINCT = 200  # batches; they are sent again and again
T0 = 1_763_769_600_000  # 2025-11-22
NAMES = [f"f{i}" for i in range(FEATURES)]
Format = Literal["json", "arrow"]

# A stream that drifts does so for 8 of its 20 distinct batches: long enough for two windows of 1,000 rows to be
# full of it, and what follows is calm for long enough to resolve the alerts.
CYCLE, DRIFTED, SHIFT = 20, 8, 1.5

# What the targets are about. Short fits: what the network has learned makes no difference to its speed.
DETECTORS: dict[str, Any] = {
    "ks": {},
    "zscore": {},
    "entropy": {},
    "autoencoder": {"steps_max": 100},
    "chi2": None,
    "quality": None,
}


class Message(NamedTuple):
    """A record on its way to Kafka. It has no time of its own: sent again, it must not lie in the past."""

    stream: int
    key: bytes
    value: bytes
    headers: tuple[Header, ...]


def name_of(stream: int) -> str:
    return f"fraud/{stream}"


def references(form: Format) -> list[Message]:
    """What is normal for each stream, in parts that are smaller than what a broker takes by default."""
    rng = np.random.default_rng(1)
    return [
        _message(rng, stream, REFERENCE_ROWS // PARTS, form, role="reference", part=(part + 1, PARTS))
        for stream in range(STREAMS)
        for part in range(PARTS)
    ]


def batches(form: Format, count: int = DISTINCT, drifting: Collection[int] = ()) -> list[Message]:
    """The streams' batches in turn; those of `drifting` fire and resolve alerts once a CYCLE, each in its own time."""
    rng = np.random.default_rng(2)
    made = []
    for i in range(count):
        stream, number = i % STREAMS, i // STREAMS
        shifted = stream in drifting and (number + 2 * stream) % CYCLE >= CYCLE - DRIFTED
        made.append(_message(rng, stream, ROWS, form, SHIFT if shifted else 0.0))
    return made


def _message(
    rng: np.random.Generator, stream: int, rows: int, form: Format, shift: float = 0.0, **more: Any
) -> Message:
    name = name_of(stream)
    features, logits = rng.normal(shift, size=(rows, FEATURES)), rng.normal(size=(rows, CLASSES))
    value, headers = encode_features(name, features, names=NAMES, logits=logits, format=form, **more)
    return Message(stream, name.encode(), value, tuple(headers))
