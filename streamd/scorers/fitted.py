"""A fitted scorer as bytes: safetensors, with what is not a tensor as JSON in its metadata. No pickle.

One JSON object, under the key `streamd`, holds the kind, its own description, the row threshold and the note.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from streamd.table import FloatArray

FORMAT = "streamd-scorer/1"
KEY = "streamd"
CALIBRATION = "calibration"


class Spotted(NamedTuple):
    """How the row threshold goes on learning from rows that did not alarm: see `scorers.spot`."""

    rate: float
    depth_rows: int


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit leaves behind.

    Attributes:
        kind: who can read the rest: a key of `scorers.registry`.
        described: JSON values: columns, transform, architecture.
        tensors: name -> array. The name `calibration` is taken.
        calibration: (held out,) scores of rows that the fit did not see, in their order.
        row_threshold: scores above it are named and counted.
        note: one sentence for people: what was fitted on how much, or why nothing was.
        spot: how the row threshold goes on learning; None: it stays.
    """

    kind: str
    described: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    calibration: FloatArray
    row_threshold: float
    note: str
    spot: Spotted | None = None


def to_bytes(fitted: Fitted) -> bytes:
    """Equal fits give equal bytes."""
    from safetensors.numpy import save

    assert CALIBRATION not in fitted.tensors, fitted.kind
    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.tensors.items()}
    arrays[CALIBRATION] = fitted.calibration.astype(np.float64)
    described = {
        "format": FORMAT,
        "kind": fitted.kind,
        "described": dict(fitted.described),
        "row_threshold": fitted.row_threshold,
        "note": fitted.note,
        "spot": fitted.spot,
    }
    data: bytes = save(arrays, metadata={KEY: json.dumps(described, ensure_ascii=False)})  # one key: order is fixed
    return data


def from_bytes(data: bytes) -> Fitted:
    """The inverse of `to_bytes`.

    Raises:
        ValueError: the bytes are no fitted scorer, or one of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        header = orjson.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        described = orjson.loads(header["__metadata__"][KEY])
        if described.get("format") != FORMAT:
            raise ValueError(f"they are {described.get('format')!r}, this version reads {FORMAT!r}: fit them anew")
        calibration = tensors.pop(CALIBRATION)
        return Fitted(
            described["kind"],
            described["described"],
            tensors,
            calibration,
            float(described["row_threshold"]),
            described["note"],
            None if described.get("spot") is None else Spotted(*described["spot"]),
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"these weights are no fitted scorer: {error}") from error
