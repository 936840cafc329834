"""What an application may pass to a producer: said at once and in plain words where it makes no batch."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

Timestamp = int | datetime.datetime

_STREAM_CHARACTERS = 200  # the daemon's own limit; a longer name would be a dead letter


def check_stream(stream: object) -> None:
    """Raise TypeError or ValueError for what is no stream name."""
    if not isinstance(stream, str):
        raise TypeError(f"stream must be a str, by habit 'model/version', not {type(stream).__name__}")
    if not 1 <= len(stream) <= _STREAM_CHARACTERS or not stream.isprintable():
        raise ValueError(f"stream must be 1 to {_STREAM_CHARACTERS} printable characters, is {stream[:60]!r}")


def check_rows(features: Any, logits: Any, probabilities: Any, ids: Any) -> int:
    """The number of rows. Raises TypeError or ValueError unless everything given has that many."""
    if logits is not None and probabilities is not None:
        raise ValueError("give logits or probabilities, not both")
    if features is None and logits is None and probabilities is None:
        raise ValueError("a batch needs features, logits or probabilities")
    lengths: dict[str, int] = {}
    if isinstance(features, Mapping):
        lengths = {f"column {name!r}": _length(column, f"column {name!r}") for name, column in features.items()}
    elif features is not None:
        lengths["features"] = _length(features, "features")
    for name, values in (("logits", logits), ("probabilities", probabilities), ("ids", ids)):
        if values is not None:
            lengths[name] = _length(values, name)
    if len(set(lengths.values())) > 1:
        first, other = next(iter(lengths)), next(n for n in lengths if lengths[n] != next(iter(lengths.values())))
        raise ValueError(f"{first} has {lengths[first]} rows, {other} has {lengths[other]}: all must have as many")
    return next(iter(lengths.values()), 0)


def _length(values: Any, what: str) -> int:
    # A str has a length too: the one value of a batch of one row that was not put into a list.
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise TypeError(f"{what} must hold one value a row, such as a list; it is a {type(values).__name__}")
    return len(values)


def slice_rows(features: Any, first: int, last: int) -> Any:
    """The rows [first, last) of anything that makes a batch."""
    if features is None:
        return None
    if isinstance(features, Mapping):
        return {name: slice_rows(column, first, last) for name, column in features.items()}
    if hasattr(features, "iloc"):  # pandas: plain brackets would go by label
        return features.iloc[first:last]
    return features[first:last]


def epoch_ms(ts: Timestamp | None) -> int | None:
    """Epoch milliseconds. A naive datetime is refused: nobody knows which clock it was read from."""
    if ts is None:
        return None
    if isinstance(ts, datetime.datetime):
        if ts.tzinfo is None:
            raise ValueError("ts has no time zone: use datetime.now(timezone.utc)")
        return round(ts.timestamp() * 1000)
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise TypeError(f"ts must be epoch milliseconds as an int, or an aware datetime, not {type(ts).__name__}")
    return ts
