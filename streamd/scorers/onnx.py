"""A network of the user's own as an ONNX file, which reconstructs rows or scores them; run by onnxruntime."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamd.scorers.fitted import Fitted
from streamd.scorers.transform import Transform
from streamd.table import FloatArray, Table

KIND = "onnx"
Reads = Literal["reconstruction", "score"]
Rows = NDArray[np.float32]  # (rows, elements)

ROWS_A_RUN = 64  # always: how a product of matrices is summed may depend on how many rows there are
BOUND = 1e30  # for infinite values: a network's sums of it are finite
ELEMENT_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


@dataclass(frozen=True, eq=False)
class RawColumns:
    """Columns as they were sent: numeric ones side by side, or one n-dimensional one.

    Attributes:
        features: names, in the order in which the file reads them.
        sent: the shape of one row of the n-dimensional column; empty for numeric columns.
        fills: (elements,) what stands for a missing value.
    """

    features: tuple[str, ...]
    sent: tuple[int, ...]
    fills: FloatArray

    def __post_init__(self) -> None:
        if self.fills.shape != (int(np.prod(self.sent)) if self.sent else len(self.features),):
            raise ValueError(f"{len(self.fills)} fills are not those of {self.features} of shape {self.sent}")

    @property
    def owners(self) -> NDArray[np.intp]:
        """(elements,) the place of each element's column in `features`."""
        return np.zeros(len(self.fills), np.intp) if self.sent else np.arange(len(self.features))

    def values(self, table: Table) -> FloatArray:
        """(rows, elements), NaN where one is missing."""
        if not self.sent:
            return table.matrix(self.features).T
        array = table.arrays.get(self.features[0])
        if array is None or array.shape[1:] != self.sent:
            return np.full((table.rows, len(self.fills)), np.nan)
        return array.reshape(table.rows, -1)

    def __call__(self, table: Table) -> Rows:
        values = self.values(table)
        return np.clip(np.where(np.isnan(values), self.fills, values), -BOUND, BOUND).astype(np.float32)

    def unknown_rows(self, table: Table) -> NDArray[np.bool_]:
        """(rows,) whether all of a row's values are missing."""
        unknown: NDArray[np.bool_] = np.logical_and.reduce(np.isnan(self.values(table)), axis=1)
        return unknown


@dataclass(frozen=True, eq=False)
class ScaledColumns:
    """Columns by a fitted transform."""

    transform: Transform

    @property
    def features(self) -> tuple[str, ...]:
        return self.transform.features

    @property
    def owners(self) -> NDArray[np.intp]:
        return self.transform.owners

    def __call__(self, table: Table) -> Rows:
        return np.ascontiguousarray(self.transform(table).T)

    def unknown_rows(self, table: Table) -> NDArray[np.bool_] | None:
        return self.transform.unknown_rows(table)


Columns = RawColumns | ScaledColumns


class OnnxNetwork:
    """The file, loaded: float32 rows in, what it says of them out. On the processor, on one thread.

    Args:
        file: its bytes.
        output: the name of the output to read; empty where there is only one.

    Raises:
        ValueError: the file cannot be used; the text says why, and what to do.
    """

    def __init__(self, file: bytes, output: str = "") -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # what is wrong is raised
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # each of onnxruntime's kinds is an Exception of its own
            raise ValueError(_refusal(str(error), onnxruntime.__version__)) from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ValueError(f"it has {len(inputs)} inputs, {[i.name for i in inputs]}: one is wanted, (rows, …)")
        self._input = inputs[0].name
        if inputs[0].type not in ELEMENT_TYPES:
            raise ValueError(f"its input {self._input!r} is {inputs[0].type}; float or double is wanted")
        self._type = ELEMENT_TYPES[inputs[0].type]
        axes: list[int | str | None] = inputs[0].shape or [1]
        rows, self.shape = axes[0], axes[1:]
        if isinstance(rows, int):
            raise ValueError(
                f"its input {self._input!r} takes {rows} rows at a time, always: export it with a dynamic first axis"
            )
        self._output = _chosen(output, [each.name for each in self._session.get_outputs()])

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """The output for (rows, …), one row or more: what it says of a row does not depend on how many there are.

        Raises:
            ValueError: the file cannot be run on rows of this shape.
        """
        outputs = []
        for start in range(0, len(rows), ROWS_A_RUN):
            part = rows[start : start + ROWS_A_RUN].astype(self._type)
            short = ROWS_A_RUN - len(part)
            if short:
                part = np.concatenate([part, np.zeros((short, *part.shape[1:]), part.dtype)])
            try:
                output = self._session.run([self._output], {self._input: part})[0]
            except Exception as error:
                raise ValueError(f"it fails on rows of shape {rows.shape[1:]}: {_sentence(str(error))}") from error
            if not isinstance(output, np.ndarray) or output.shape[:1] != (ROWS_A_RUN,):
                raise ValueError(f"its output {self._output!r} is {np.shape(output)} for {ROWS_A_RUN} rows")
            outputs.append(output[: ROWS_A_RUN - short])
        return np.concatenate(outputs)


def _refusal(text: str, version: str) -> str:
    if "external" in text.lower() or "model_path" in text.lower():
        return f"its weights are in a file beside it: save all in one file ({_sentence(text)})"
    if "No Op registered" in text or "NOT_IMPLEMENTED" in text:
        return f"it has an operator that onnxruntime {version} does not know: {_sentence(text)}"
    return f"onnxruntime {version} cannot read it: {_sentence(text)}"


def _sentence(text: str) -> str:
    return " ".join(text.split())[:300]


def _chosen(output: str, there: list[str]) -> str:
    if output and output not in there:
        raise ValueError(f"it has no output {output!r}; it has {there}")
    if not output and len(there) != 1:
        raise ValueError(f"it has {len(there)} outputs, {there}: say which one is read, by `output`")
    return output or there[0]


class OnnxScores:
    """Implements Scores. Squared errors explain a reconstruction; a score is asked again without each feature."""

    def __init__(self, scorer: OnnxScorer, rows: Rows, values: FloatArray, squared: FloatArray | None) -> None:
        self.values = values
        self._scorer = scorer
        self._rows = rows
        self._squared = squared

    def explain(self, rows: NDArray[np.int64]) -> FloatArray:
        added = np.zeros((len(self._scorer.features), len(rows)))
        if self._squared is not None:
            np.add.at(added, self._scorer.columns.owners, self._squared[rows].T)
            return added
        for i, row in enumerate(rows):
            added[:, i] = self._scorer.occluded(self._rows[row], self.values[row])
        return added


class OnnxScorer:
    """Implements Scorer.

    Args:
        medians: (elements,) of the rows that were learned from.
        strange: whether high or low scores of the file are the strange ones.
    """

    def __init__(
        self,
        columns: Columns,
        network: OnnxNetwork,
        reads: Reads,
        medians: NDArray[np.float32],
        strange: Literal["high", "low"] = "high",
    ) -> None:
        self.columns = columns
        self.features = columns.features
        self._network = network
        self._reads = reads
        self._medians = medians
        self._sign = -1.0 if strange == "low" else 1.0
        self._shape = _row_shape(network.shape, columns, len(medians))

    def score(self, table: Table) -> OnnxScores:
        rows = self.columns(table)
        squared = None
        if not table.rows:
            return OnnxScores(self, rows, np.empty(0), np.empty(rows.shape))
        if self._reads == "reconstruction":
            squared = self._squared_errors(rows)
            values = squared.mean(axis=1)
        else:
            values = self._scores(rows)
        unknown = self.columns.unknown_rows(table)
        values[~np.isfinite(values) if unknown is None else unknown | ~np.isfinite(values)] = np.nan
        return OnnxScores(self, rows, values, squared)

    def occluded(self, row: Rows, score: float) -> FloatArray:
        """(features,) how much lower the score of one row (elements,) is with each feature at its median.

        Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks": occlusion.
        """
        own = self.columns.owners == np.arange(len(self.features))[:, None]  # (features, elements)
        without = np.where(own, self._medians, row)
        lower: FloatArray = np.maximum(score - self._scores(without), 0.0)
        return lower

    def _scores(self, rows: Rows) -> FloatArray:
        output = self._network(rows.reshape(len(rows), *self._shape))
        if output.shape not in ((len(rows),), (len(rows), 1)):
            raise ValueError(f"its output is {output.shape[1:]} a row; one number is wanted for `reads: score`")
        return self._sign * output.reshape(-1).astype(np.float64)

    def _squared_errors(self, rows: Rows) -> FloatArray:
        """(rows, elements)"""
        output = self._network(rows.reshape(len(rows), *self._shape))
        if output.shape[1:] != self._shape:
            raise ValueError(f"its output is {output.shape[1:]} for rows of {self._shape}: it reconstructs nothing")
        difference: FloatArray = output.reshape(rows.shape).astype(np.float64) - rows
        return difference * difference


def _row_shape(wanted: list[int | str | None], columns: Columns, elements: int) -> tuple[int, ...]:
    """That of one row as the file takes it: the columns' own, but for axes of length 1."""
    sent = columns.sent if isinstance(columns, RawColumns) and columns.sent else (elements,)
    if len(sent) == len(wanted) and all(n == w or not isinstance(w, int) for n, w in zip(sent, wanted, strict=True)):
        return sent
    fixed = tuple(each for each in wanted if isinstance(each, int))
    if len(fixed) == len(wanted) and [n for n in fixed if n != 1] == [n for n in sent if n != 1]:
        return fixed
    raise ValueError(f"its rows are {tuple(wanted)}, and those of the columns {sent}")


def load(fitted: Fitted) -> OnnxScorer:
    """What `fitting.onnx` made.

    Raises:
        ValueError: a part is missing, they do not fit each other, or the file is not the one that was fitted.
    """
    described, tensors = fitted.described, fitted.tensors
    try:
        file, medians = tensors["file"].tobytes(), tensors["medians"]
        if hashlib.sha256(file).hexdigest() != described["sha256"]:
            raise ValueError(f"the ONNX file in these weights is not {described['sha256']}")
        columns: Columns
        if described["transform"] is None:
            columns = RawColumns(tuple(described["columns"]), tuple(described["sent"]), medians.astype(np.float64))
        else:
            columns = ScaledColumns(Transform.from_parts(described["transform"], tensors))
        network = OnnxNetwork(file, described["output"])
        return OnnxScorer(columns, network, described["reads"], medians, described["strange"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"this ONNX scorer lacks a part: {error!r}") from error
