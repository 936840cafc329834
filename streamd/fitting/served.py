"""The model that serves, to be asked how sure it is: an ONNX file, or a function of one's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamd.fitting.base import FitError
from streamd.table import MISSING_CODE, FloatArray, Table

Model = Callable[[Table], FloatArray]
"""From rows to (rows, classes) logits or probabilities."""


def open_model(name: str) -> Model:
    """The model of that name: `model.onnx`, or `module:function`.

    An ONNX model has either one input, (rows, columns) of all numeric columns in the data's order, or one for each
    column that it reads, by name. A function takes a dict of columns, numbers or text, and returns (rows, classes).

    Raises:
        FitError: there is no such model; the text says what is wrong.
        ModuleNotFoundError: onnxruntime is not installed.
    """
    if name.endswith(".onnx"):
        return _onnx(Path(name))
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise FitError(f"a model is a file model.onnx or module:function, not {name!r}")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise FitError(f"the model {name} cannot be imported: {error}") from error
    return lambda table: _checked(name, function(_columns(table)), table.rows)


def _columns(table: Table) -> dict[str, NDArray[Any]]:
    """Numbers as they are; text with None where it is missing."""
    columns: dict[str, NDArray[Any]] = dict(table.numeric) | dict(table.arrays)
    for name, column in table.categorical.items():
        assert MISSING_CODE == -1  # the last place is what a missing one reads
        columns[name] = np.array([*column.categories, None], dtype=object)[column.codes]
    return columns


def _onnx(path: Path) -> Model:
    import onnxruntime

    if not path.is_file():
        raise FitError(f"there is no model {path}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print we say
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base
        raise FitError(f"{path} is no ONNX model that can be run: {error}") from error

    def model(table: Table) -> FloatArray:
        try:
            outputs = session.run(None, _inputs(session.get_inputs(), table))
        except FitError:
            raise
        except Exception as error:
            raise FitError(f"{path} does not take these rows: {error}") from error
        matrices = [out for out in outputs if isinstance(out, np.ndarray) and out.dtype.kind == "f"]
        if not matrices:
            raise FitError(f"{path} gives no matrix of logits or probabilities: export it without ZipMap")
        return _checked(str(path), matrices[-1], table.rows)

    return model


def _inputs(wanted: Any, table: Table) -> Mapping[str, NDArray[Any]]:
    columns = _columns(table)
    if len(wanted) == 1 and wanted[0].name not in columns:
        kind = np.float64 if "double" in wanted[0].type else np.float32
        return {wanted[0].name: table.matrix(tuple(table.numeric)).T.astype(kind)}
    found = {}
    for each in wanted:
        if each.name not in columns:
            raise FitError(f"the model reads a column {each.name!r}, which the data has not")
        column = columns[each.name].reshape(table.rows, -1)
        text = "string" in each.type
        found[each.name] = column.astype(str).astype(object) if text else column.astype(_NUMBERS.get(each.type, "f4"))
    return found


_NUMBERS = {"tensor(double)": "f8", "tensor(float)": "f4", "tensor(int64)": "i8", "tensor(int32)": "i4"}


def _checked(name: str, values: Any, rows: int) -> FloatArray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FitError(f"{name} gives no numbers: {error}") from error
    if found.ndim not in (1, 2) or len(found) != rows:
        raise FitError(f"{name} gives {found.shape} for {rows} rows: it should be (rows, classes)")
    return found.reshape(rows, -1)
