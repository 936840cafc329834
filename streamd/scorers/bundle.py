"""A fitted autoencoder as bytes: safetensors, with what is not a tensor as JSON in its metadata. No pickle.

    weights.0 (out, in)  biases.0 (out,) …   float32   the network
    means, scales        (numeric,)          float64   the transform
    errors               (held out,)         float32   of reference rows that the fit did not see, in their order
    input_errors         (inputs,)           float64   the mean squared error of each input over those rows

One JSON object, under the key `streamd`, holds the rest: columns, categories, bound, row threshold, note.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from streamd.scorers.dense import Layer
from streamd.scorers.transform import Transform
from streamd.table import FloatArray

FORMAT = "dense-autoencoder/1"
KEY = "streamd"


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a fit leaves behind.

    Attributes:
        transform: how columns become inputs.
        layers: of the network, float32; none where nothing could be fitted.
        errors: (held-out rows,) reconstruction errors, in the order of the reference.
        input_errors: (inputs,) their mean, input by input.
        row_threshold: errors above it are named and counted.
        note: one sentence for people: what was fitted on how much, or why nothing was.
    """

    transform: Transform
    layers: tuple[Layer, ...]
    errors: FloatArray
    input_errors: FloatArray
    row_threshold: float
    note: str

    @property
    def fitted(self) -> bool:
        return bool(self.layers)


def to_bytes(bundle: Bundle) -> bytes:
    """Equal bundles give equal bytes."""
    from safetensors.numpy import save

    transform = bundle.transform
    tensors = {"means": transform.means, "scales": transform.scales, "input_errors": bundle.input_errors}
    arrays: dict[str, Any] = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    arrays["errors"] = bundle.errors.astype(np.float32)
    for i, (weights, biases) in enumerate(bundle.layers):
        arrays[f"weights.{i}"] = np.ascontiguousarray(weights)
        arrays[f"biases.{i}"] = np.ascontiguousarray(biases)
    described = {
        "format": FORMAT,
        "layers": len(bundle.layers),
        "numeric": transform.numeric,
        "categorical": transform.categorical,
        "bound": transform.bound,
        "row_threshold": bundle.row_threshold,
        "note": bundle.note,
    }
    data: bytes = save(arrays, metadata={KEY: json.dumps(described, ensure_ascii=False)})  # one key: order is fixed
    return data


def from_bytes(data: bytes) -> Bundle:
    """The inverse of `to_bytes`.

    Raises:
        ValueError: the bytes are no such bundle, or their parts do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        header = orjson.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        described = orjson.loads(header["__metadata__"][KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"these weights are no autoencoder bundle: {error!r}") from error
    if described.get("format") != FORMAT:
        raise ValueError(f"these weights are {described.get('format')!r}; this version reads {FORMAT!r}: fit them anew")
    try:
        bundle = _assembled(tensors, described)
    except (KeyError, TypeError) as error:
        raise ValueError(f"these weights lack a part: {error!r}") from error
    _check(bundle)
    return bundle


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _assembled(tensors: dict[str, Any], described: dict[str, Any]) -> Bundle:
    categorical = tuple((name, tuple(categories)) for name, categories in described["categorical"])
    transform = Transform(
        tuple(described["numeric"]), tensors["means"], tensors["scales"], categorical, described["bound"]
    )
    layers = tuple((tensors[f"weights.{i}"], tensors[f"biases.{i}"]) for i in range(described["layers"]))
    errors = tensors["errors"].astype(np.float64)
    return Bundle(
        transform, layers, errors, tensors["input_errors"], float(described["row_threshold"]), described["note"]
    )


def _check(bundle: Bundle) -> None:
    """That each layer takes what the one before it gives, and every array is as long as its columns."""
    width = inputs = bundle.transform.inputs
    for i, (weights, biases) in enumerate(bundle.layers):
        if weights.ndim != 2 or weights.shape[1] != width or biases.shape != weights.shape[:1]:
            raise ValueError(f"layer {i} of these weights is {weights.shape} with {biases.shape} biases, after {width}")
        width = weights.shape[0]
    lengths = {len(bundle.transform.means), len(bundle.transform.scales), len(bundle.transform.numeric)}
    if bundle.fitted and (width != inputs or bundle.input_errors.shape != (inputs,) or len(lengths) != 1):
        raise ValueError(f"these weights give {width} outputs for {inputs} inputs, or their columns do not match")
