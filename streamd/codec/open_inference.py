"""Open Inference Protocol V2: requests and responses of KServe, Triton and MLServer, as they are.

An input of shape [rows] or [rows, 1] is a feature; of shape [rows, k] a block of features `name[0]` …
`name[k-1]`; with more dimensions one n-dimensional feature. An output is a prediction where its name is one
of the configured ones; other outputs are left out. `parameters` may hold `stream`, `ts`, `role`, `version`.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import numpy as np

from streamd.codec.columns import TableBuilder, numbers
from streamd.codec.limits import Limits
from streamd.codec.names import check_count
from streamd.codec.record import Content
from streamd.errors import InvalidRecord, Reason
from streamd.table import PredictionKind

_NUMERIC = frozenset(
    {"UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64"}
)
_CATEGORICAL = {"BYTES": str, "BOOL": bool}


def read_open_inference(document: dict[str, Any], limits: Limits) -> Content:
    """The batch in a V2 request, response, or both in one object.

    Raises:
        InvalidRecord: what does not fit, and where.
    """
    builder = TableBuilder(limits)
    seen: set[str] = set()
    for tensor in _tensors(document, "inputs", limits):
        name, shape, datatype, data = _tensor(tensor, "inputs")
        if name in seen:
            raise InvalidRecord(Reason.DUPLICATE_NAME, f"two inputs have the name {name[:80]!r}")
        seen.add(name)
        _add_input(builder, name, shape, datatype, data, limits)
    _set_predictions(builder, document, limits)
    parameters = document.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    return Content(
        builder.build(),
        stream=_stream(document, parameters),
        ts=parameters.get("ts", document.get("ts")),
        role=parameters.get("role", document.get("role")),
        version=parameters.get("version", document.get("version")),
    )


def _stream(document: dict[str, Any], parameters: dict[str, Any]) -> object:
    model = document.get("model_name")
    if "stream" in parameters or model is None:
        return parameters.get("stream", document.get("stream"))
    version = document.get("model_version")
    return model if not isinstance(model, str) or version in (None, "") else f"{model}/{version}"


def _tensors(document: dict[str, Any], key: str, limits: Limits) -> list[Any]:
    tensors = document.get(key)
    if tensors is None:
        return []
    if not isinstance(tensors, list):
        raise InvalidRecord(Reason.BAD_SCHEMA, f"`{key}` is a {type(tensors).__name__}, it must be an array of tensors")
    check_count(len(tensors), key, limits.columns, Reason.TOO_MANY_COLUMNS)
    return tensors


def _tensor(tensor: Any, where: str) -> tuple[str, tuple[int, ...], str, list[Any]]:
    """The name, shape, datatype and flat data of one tensor."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise InvalidRecord(Reason.BAD_SCHEMA, f"an item of `{where}` is no tensor: it has no `name`")
    name, shape, datatype, data = tensor["name"], tensor.get("shape"), tensor.get("datatype"), tensor.get("data")
    if not isinstance(shape, list) or not shape or not all(type(n) is int and n >= 0 for n in shape):
        raise InvalidRecord(
            Reason.BAD_SHAPE, f"tensor {name[:80]!r}: `shape` must be an array of integers, the rows first"
        )
    if datatype not in _NUMERIC and datatype not in _CATEGORICAL:
        raise InvalidRecord(Reason.UNSUPPORTED_TYPE, f"tensor {name[:80]!r}: datatype {str(datatype)[:40]!r}")
    if not isinstance(data, list):
        raise InvalidRecord(
            Reason.UNSUPPORTED_TYPE,
            f"tensor {name[:80]!r} has no `data` array: the binary tensor extension is not read here, send JSON",
        )
    # Row-major, flat or nested as the shape.
    while data and isinstance(data[0], list):
        if not set(map(type, data)) <= {list}:
            raise InvalidRecord(Reason.BAD_SHAPE, f"tensor {name[:80]!r}: `data` is flat here and nested there")
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        raise InvalidRecord(
            Reason.BAD_SHAPE, f"tensor {name[:80]!r}: {len(data)} values do not fill the shape {str(shape)[:80]}"
        )
    return name, tuple(shape), datatype, data


def _add_input(
    builder: TableBuilder, name: str, shape: tuple[int, ...], datatype: str, data: list[Any], limits: Limits
) -> None:
    categorical = _CATEGORICAL.get(datatype)
    if categorical is not None and not set(map(type, data)) <= {categorical, type(None)}:
        raise InvalidRecord(
            Reason.MIXED_TYPES, f"tensor {name[:80]!r} is {datatype}, some of its data are no {categorical.__name__}"
        )
    if len(shape) > 2:
        if categorical is not None:
            raise InvalidRecord(Reason.UNSUPPORTED_TYPE, f"tensor {name[:80]!r}: {datatype} in {len(shape)} dimensions")
        # Checked before the reshape: a shape such as [0, 10**12] has as many values as data.
        check_count(math.prod(shape[1:]), "cells a row", limits.cells, Reason.TOO_LARGE)
        builder.add_array(name, numbers(data, f"tensor {name!r}").reshape(shape))
        return
    width = shape[1] if len(shape) == 2 else 1
    check_count(width, "columns", limits.columns, Reason.TOO_MANY_COLUMNS)
    if width == 0:
        raise InvalidRecord(Reason.BAD_SHAPE, f"tensor {name[:80]!r} has no columns: its shape is {shape}")
    for i in range(width):
        builder.add(name if width == 1 else f"{name}[{i}]", data[i::width])


def _set_predictions(builder: TableBuilder, document: dict[str, Any], limits: Limits) -> None:
    kinds: dict[str, PredictionKind] = dict.fromkeys(limits.probabilities_names, "probabilities")
    kinds |= dict.fromkeys(limits.logits_names, "logits")
    found: dict[PredictionKind, Any] = {}
    for tensor in _tensors(document, "outputs", limits):
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str) or tensor["name"] not in kinds:
            continue
        name, shape, datatype, data = _tensor(tensor, "outputs")
        if kinds[name] in found:
            raise InvalidRecord(Reason.DUPLICATE_NAME, f"two outputs are {kinds[name]}")
        if datatype in _CATEGORICAL:
            raise InvalidRecord(Reason.UNSUPPORTED_TYPE, f"output {name!r}: {datatype} is not a number")
        check_count(math.prod(shape[1:]), "classes", limits.classes, Reason.TOO_MANY_COLUMNS)
        found[kinds[name]] = np.asarray(numbers(data, f"output {name!r}")).reshape(shape)
    # With both, logits: the probabilities follow from them.
    for kind in ("logits", "probabilities"):
        if kind in found:
            builder.set_predictions(kind, found[kind])
            return
