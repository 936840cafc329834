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
CALIBRATION, USUAL, PLACES = "calibration", "usual", "places"


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
        tensors: name -> array, none where nothing could be learned. The names `calibration`, `usual` and
            `places` are taken.
        calibration: (held out,) scores of rows that the fit did not see, in their order.
        row_threshold: scores above it are named and counted.
        note: one sentence for people: what was fitted on how much, or why nothing was.
        spot: how the row threshold goes on learning; None: it stays.
        usual: (features,) the mean share of each in the scores of normal rows; None: it is not known.
        places: (held out,) of these rows in the reference, where its rows have times; None: nobody needs to know.
    """

    kind: str
    described: Mapping[str, Any]
    tensors: Mapping[str, NDArray[Any]]
    calibration: FloatArray
    row_threshold: float
    note: str
    spot: Spotted | None = None
    usual: FloatArray | None = None
    places: NDArray[np.int64] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing could be learned; the note says why."""
        return not self.tensors


def to_bytes(fitted: Fitted) -> bytes:
    """Equal fits give equal bytes."""
    from safetensors.numpy import save

    assert not {CALIBRATION, USUAL, PLACES} & fitted.tensors.keys(), fitted.kind
    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.tensors.items()}
    arrays[CALIBRATION] = fitted.calibration.astype(np.float64)
    if fitted.usual is not None:
        arrays[USUAL] = fitted.usual
    if fitted.places is not None:
        arrays[PLACES] = fitted.places.astype(np.int64)
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
        calibration, usual, places = tensors.pop(CALIBRATION), tensors.pop(USUAL, None), tensors.pop(PLACES, None)
        return Fitted(
            described["kind"],
            described["described"],
            tensors,
            calibration,
            float(described["row_threshold"]),
            described["note"],
            None if described.get("spot") is None else Spotted(*described["spot"]),
            usual,
            places,
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"these weights are no fitted scorer: {error}") from error
