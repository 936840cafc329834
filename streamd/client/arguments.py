"""What an application may pass to a producer: said at once and in plain words where it makes no batch."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

Timestamp = int | datetime.datetime

HOUR_MS = 3_600_000  # a part of a reference has one time, and seasons are told apart by the hour

_STREAM_CHARACTERS = 200  # the daemon's own limit; a longer name would be a dead letter
_PARTS_MAX = 10_000  # likewise, as it comes


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


def take_rows(features: Any, order: Sequence[int]) -> Any:
    """The rows of those numbers, in that order, of anything that makes a batch."""
    if features is None:
        return None
    if isinstance(features, Mapping):
        return {name: take_rows(column, order) for name, column in features.items()}
    if isinstance(features, list | tuple):
        return [features[row] for row in order]
    if type(features).__module__.partition(".")[0] == "pyarrow":
        return features.take(order)
    return features.iloc[order] if hasattr(features, "iloc") else features[order]


def row_times(ts: Any, rows: int) -> list[int]:
    """Of each row its time in epoch milliseconds, from a list, an array or a column of times.

    Raises:
        TypeError, ValueError: it is none, has not as many, or one of them is no time.
    """
    count = _length(ts, "ts")
    if count != rows:
        raise ValueError(f"there are {rows} rows, and ts has {count} times: each row must have one")
    if str(getattr(ts, "dtype", "")).startswith("datetime64") and getattr(ts.dtype, "tz", None) is None:
        raise ValueError("ts has no time zone: give datetimes with one, or epoch milliseconds as int")
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(ts, method):
            ts = getattr(ts, method)()
            break
    times = []
    for row, value in enumerate(ts):
        if value is None or value != value:
            raise ValueError(f"row {row} has no time")
        time_ms = epoch_ms(value)
        assert time_ms is not None
        times.append(time_ms)
    return times


def in_order_of_time(ts: Any, rows: int, columns: Sequence[Any]) -> tuple[list[int] | None, list[Any]]:
    """The times of the rows, rising, and what has these rows in that order; None and all as it is for one time."""
    if ts is None or isinstance(ts, Timestamp):
        return None, list(columns)
    times = row_times(ts, rows)
    order = sorted(range(rows), key=times.__getitem__)
    if order == list(range(rows)):
        return times, list(columns)
    return sorted(times), [take_rows(each, order) for each in columns]


def parts_of(rows: int, rows_max: int, times_ms: Sequence[int] | None) -> list[tuple[int, int]]:
    """A reference as parts (first row, row after the last) of `rows_max` rows at most; of one hour each where the rows
    have times, in whose order they are. Raises ValueError for more than the daemon takes."""
    parts, first = [], 0
    for row in range(1, rows + 1):
        ends = row == rows or row - first == rows_max
        if ends or (times_ms is not None and times_ms[row] // HOUR_MS != times_ms[first] // HOUR_MS):
            parts.append((first, row))
            first = row
    if len(parts) > _PARTS_MAX:
        remedy = "send more rows in one" if times_ms is None else "each has one hour: send fewer hours"
        raise ValueError(f"the reference has {len(parts):,} parts, and the daemon takes {_PARTS_MAX:,}: {remedy}")
    return parts


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
