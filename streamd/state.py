"""State as bytes: JSON with numpy arrays, without pickle.

    ┌────────┬──────────────┬───────────────────────────────┬──────────────────────┐
    │ SDS1   │ u32 length   │ JSON, arrays as {"§": i, …}   │ arrays, 8-aligned    │
    └────────┴──────────────┴───────────────────────────────┴──────────────────────┘

Floats in the JSON part are exact: orjson writes the shortest form that reads back to the same double.
Non-finite ones are written as {"§f": "nan" | "inf" | "-inf"}.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson

_MAGIC = b"SDS1"
_ARRAY = "§"
_FLOAT = "§f"


def pack(state: Any) -> bytes:
    """Encode JSON values and numpy arrays, nested in dicts with string keys and lists."""
    arrays: list[bytes] = []
    header = orjson.dumps(_lift(state, arrays))
    padding = b" " * (-(len(header) + 8) % 8)
    return b"".join([_MAGIC, (len(header) + len(padding)).to_bytes(4, "little"), header, padding, *arrays])


def unpack(data: bytes) -> Any:
    """The inverse of `pack`. Arrays are new and writable.

    Raises:
        ValueError: the bytes are not what `pack` wrote.
    """
    if data[:4] != _MAGIC:
        raise ValueError(f"not a state: it starts with {data[:4]!r}, not {_MAGIC!r}")
    end = 8 + int.from_bytes(data[4:8], "little")
    return _lower(orjson.loads(data[8:end]), data, [end])


def _lift(value: Any, arrays: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        raw = np.ascontiguousarray(value).tobytes()
        arrays.append(raw + bytes(-len(raw) % 8))
        return {_ARRAY: value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {key: _lift(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_lift(item, arrays) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    return value


def _lower(value: Any, data: bytes, cursor: list[int]) -> Any:
    """Rebuild `value`; `cursor[0]` is where the next array starts: arrays are read in the order of the JSON."""
    if isinstance(value, list):
        return [_lower(item, data, cursor) for item in value]
    if not isinstance(value, dict):
        return value
    if _FLOAT in value:
        return float(value[_FLOAT])
    if _ARRAY in value:
        dtype, count = np.dtype(value[_ARRAY]), math.prod(value["shape"])
        array = np.frombuffer(data, dtype, count, cursor[0]).reshape(value["shape"]).copy()
        cursor[0] += array.nbytes + -array.nbytes % 8
        return array
    return {key: _lower(item, data, cursor) for key, item in value.items()}
