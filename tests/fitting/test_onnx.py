"""`onnx`: a file of the user's own gives what numpy gives, row by row, or is refused with a sentence that helps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamd.errors import StreamdError
from streamd.fitting.base import FitError, Learned, unwatched
from streamd.fitting.onnx import OnnxSettings
from streamd.scorers import registry
from streamd.scorers.base import Scorer
from streamd.scorers.fitted import Fitted, from_bytes, to_bytes
from streamd.table import Categorical, FloatArray, Table

NAMES = ("c", "a", "b")
Layers = Sequence[tuple[np.ndarray, np.ndarray]]


def written(
    folder: Path,
    nodes: Sequence[Any],
    wide: Sequence[Any],
    gives: Sequence[Any],
    weights: dict[str, np.ndarray] | None = None,
    element: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
    inputs: Sequence[str] = ("x",),
) -> Path:
    """An ONNX file with the input `x` of shape `wide` and the output `y` of shape `gives`."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, element, list(wide)) for name in inputs],
        [helper.make_tensor_value_info(name, element, list(gives)) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / "network.onnx"
    file.write_bytes(model.SerializeToString())
    return file


def layers_of(sizes: Sequence[int]) -> Layers:
    rng = np.random.default_rng(len(sizes))
    return [
        (rng.normal(size=(i, o)).astype(np.float32) / i, rng.normal(size=o).astype(np.float32))
        for i, o in pairwise(sizes)
    ]


def perceptron(folder: Path, layers: Layers) -> Path:
    nodes, weights, last = [], {}, "x"
    for i, (matrix, biases) in enumerate(layers):
        weights |= {f"w{i}": matrix, f"b{i}": biases}
        final = i + 1 == len(layers)
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], ["y" if final else f"h{i}"]))
        last = f"h{i}"
        if not final:
            nodes.append(helper.make_node("Tanh", [last], [f"t{i}"]))
            last = f"t{i}"
    return written(folder, nodes, ["rows", len(layers[0][0])], ["rows", len(layers[-1][1])], weights)


def by_numpy(layers: Layers, rows: FloatArray) -> FloatArray:
    values = rows.astype(np.float32).astype(np.float64)
    for i, (matrix, biases) in enumerate(layers):
        values = values @ matrix + biases
        values = np.tanh(values) if i + 1 < len(layers) else values
    return values


def a_table(rows: int = 300, columns: Sequence[str] = NAMES, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    return Table(rows, {name: rng.normal(i, 1.0, rows) for i, name in enumerate(sorted(columns))})


def matrix(table: Table, names: Sequence[str] = NAMES) -> FloatArray:
    return np.column_stack([table.numeric[name] for name in names])


def fitted(learned: Learned) -> Fitted:
    return Fitted("onnx", learned.described, learned.tensors, np.empty(0), 0.0, learned.note)


def read(table: Table, file: Path, **options: Any) -> Scorer:
    """As the daemon has it: through bytes."""
    learned = OnnxSettings(path=file, **options).learn(table, table.take(np.arange(0)), unwatched)
    return registry.load(from_bytes(to_bytes(fitted(learned))))


def test_a_reconstruction_is_scored_by_its_mean_squared_error_which_the_features_share(tmp_path: Path) -> None:
    layers = layers_of([3, 8, 2, 3])
    table = a_table()
    scorer = read(table, perceptron(tmp_path, layers), columns=NAMES)
    scores = scorer.score(table)
    squared = (by_numpy(layers, matrix(table)) - matrix(table)) ** 2
    np.testing.assert_allclose(scores.values, squared.mean(axis=1), rtol=1e-5)
    assert scorer.features == NAMES
    rows = np.array([7, 0, 299])
    np.testing.assert_allclose(scores.explain(rows), squared[rows].T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strange", ["high", "low"])
def test_a_score_is_read_as_it_is_and_explained_by_each_feature_at_its_median(tmp_path: Path, strange: str) -> None:
    layers = layers_of([3, 5, 1])
    table = a_table()
    sign = 1.0 if strange == "high" else -1.0
    scores = read(table, perceptron(tmp_path, layers), columns=NAMES, reads="score", strange=strange).score(table)
    expected = sign * by_numpy(layers, matrix(table))[:, 0]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5, atol=1e-6)
    medians = np.median(matrix(table), axis=0)
    explained = scores.explain(np.array([4, 250]))
    assert explained.shape == (3, 2)
    for k, row in enumerate((4, 250)):
        for feature in range(3):
            without = matrix(table)[row : row + 1].copy()
            without[0, feature] = medians[feature]
            lower = expected[row] - sign * by_numpy(layers, without)[0, 0]
            assert explained[feature, k] == pytest.approx(max(lower, 0.0), rel=1e-4, abs=1e-5)


def test_what_a_row_scores_does_not_depend_on_the_rows_beside_it(tmp_path: Path) -> None:
    names = tuple(f"f{i:03}" for i in range(131))
    table = a_table(200, names)
    scorer = read(table, perceptron(tmp_path, layers_of([131, 257, 33, 131])), columns=names)
    together = scorer.score(table).values
    for rows in (range(1), range(1, 4), range(5, 70), range(199, 100, -1)):
        chosen = np.array(rows)
        assert scorer.score(table.take(chosen)).values.tobytes() == together[chosen].tobytes()
    assert scorer.score(table.take(np.arange(0))).values.shape == (0,)
    assert scorer.score(table.take(np.arange(0))).explain(np.arange(0)).shape == (131, 0)


def test_missing_values_are_the_median_and_a_row_without_any_has_no_score(tmp_path: Path) -> None:
    layers = layers_of([3, 4, 3])
    table = a_table()
    scorer = read(table, perceptron(tmp_path, layers), columns=NAMES)
    gaps = Table(4, {"a": np.array([np.nan, 1.0, np.nan, np.inf]), "b": np.array([2.0, np.nan, np.nan, 1.0])})
    values = matrix(Table(4, {**gaps.numeric, "c": np.full(4, np.nan)}))
    filled = np.where(np.isnan(values), np.median(matrix(table), axis=0), values)[:2]
    scores = scorer.score(gaps).values
    np.testing.assert_allclose(scores[:2], ((by_numpy(layers, filled) - filled) ** 2).mean(axis=1), rtol=1e-4)
    assert np.isnan(scores[2])
    assert 1e50 < scores[3] < np.inf


def test_images_are_given_as_they_were_sent(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["h"], ["y"]),
    ]
    kernel = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype(np.float32)
    shape = ["rows", 1, 6, 5]
    file = written(tmp_path, nodes, shape, shape, {"w": kernel})
    pixels = np.random.default_rng(1).random((50, 6, 5))
    table = Table(50, arrays={"pixels": pixels})
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))
    sums = sum(padded[:, i : i + 6, j : j + 5] * kernel[0, 0, i, j] for i in range(3) for j in range(3))
    squared = (1 / (1 + np.exp(-sums)) - pixels) ** 2
    scores = read(table, file).score(table)
    np.testing.assert_allclose(scores.values, squared.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(scores.explain(np.array([3])), [[squared[3].sum()]], rtol=1e-5)
    with pytest.raises(FitError, match=r"its rows are \(1, 6, 5\), and those of the columns \(5, 6\)"):
        read(Table(50, arrays={"pixels": pixels.transpose(0, 2, 1)}), file)


def test_doubles_and_one_of_several_outputs_can_be_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0),
        helper.make_node("ReduceMax", ["x"], ["z"], axes=[1], keepdims=1),
    ]
    weights = {"axis": np.array([1], np.int64)}
    file = written(tmp_path, nodes, [None, 3], [None], weights, TensorProto.DOUBLE, outputs=("y", "z"))
    table = a_table()
    scores = read(table, file, columns=NAMES, reads="score", output="z").score(table)
    np.testing.assert_allclose(scores.values, matrix(table).max(axis=1), rtol=1e-6)
    with pytest.raises(FitError, match=r"2 outputs, \['y', 'z'\]: say which"):
        read(table, file, columns=NAMES, reads="score")
    with pytest.raises(FitError, match="no output 'q'"):
        read(table, file, columns=NAMES, reads="score", output="q")


def test_columns_can_be_scaled_and_encoded_before_the_file_reads_them(tmp_path: Path) -> None:
    layers = layers_of([5, 3, 1])
    table = a_table()
    colour = Categorical((np.arange(300) % 3).astype(np.int32) - 1, ("blue", "red"))
    table = Table(300, table.numeric, categorical={"colour": colour})
    file = perceptron(tmp_path, layers)
    scores = read(table, file, columns=("colour", *NAMES), transform="standard", reads="score").score(table)
    scaled = (matrix(table) - matrix(table).mean(axis=0)) / matrix(table).std(axis=0)
    encoded = np.column_stack([scaled, colour.codes == 0, colour.codes == 1])
    np.testing.assert_allclose(scores.values, by_numpy(layers, encoded)[:, 0], rtol=1e-4, atol=1e-6)
    reconstructed = read(
        table, perceptron(tmp_path, layers_of([5, 5])), columns=("colour", *NAMES), transform="standard"
    )
    squared = (by_numpy(layers_of([5, 5]), encoded) - encoded) ** 2
    expected = np.column_stack([squared[:, :3], squared[:, 3:].sum(axis=1)])[[8]].T
    np.testing.assert_allclose(reconstructed.score(table).explain(np.array([8])), expected, rtol=1e-4)
    with pytest.raises(FitError, match="no column 'none'"):
        read(table, file, columns=("none",), transform="standard")


def relu(**changes: Any) -> dict[str, Any]:
    return {"nodes": [helper.make_node("Relu", ["x"], ["y"])], "wide": ["n", 3], "gives": ["n", 3]} | changes


@pytest.mark.parametrize(
    ("file", "options", "sentence"),
    [
        (relu(inputs=("x", "more")), {}, "2 inputs"),
        (relu(wide=[1, 3], gives=[1, 3]), {}, "takes 1 rows at a time, always: export it with a dynamic first axis"),
        (relu(wide=["n", 4], gives=["n", 4]), {}, r"its rows are \(4,\), and those of the columns \(3,\)"),
        (relu(wide=["n", 3, 2], gives=["n", 3, 2]), {}, r"its rows are \(3, 2\)"),
        (relu(element=TensorProto.INT32), {}, "float or double is wanted"),
        (relu(), {"reads": "score"}, "one number is wanted"),
        (
            relu(nodes=[helper.make_node("ReduceMax", ["x"], ["y"], axes=[1])], gives=["n", 1]),
            {},
            "it reconstructs nothing",
        ),
        (
            relu(nodes=[helper.make_node("ReduceMax", ["x"], ["y"], axes=[0])], gives=[1, 3]),
            {},
            r"its output 'y' is \(1, 3\) for 64 rows",
        ),
        (relu(nodes=[helper.make_node("Unheard", ["x"], ["y"])]), {}, "operator that onnxruntime .* does not know"),
        (
            relu(
                nodes=[
                    helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
                    helper.make_node("Mul", ["x", "m"], ["y"]),
                ]
            ),
            {},
            "another order have other scores",
        ),
        (relu(nodes=[helper.make_node("RandomNormalLike", ["x"], ["y"])]), {}, "draws random numbers"),
        (relu(nodes=[helper.make_node("Log", ["zero"], ["y"])]), {}, "cannot read it"),
        (relu(), {"columns": ("a", "b", "none")}, "no column 'none'"),
        (relu(), {"columns": ("a", "b", "colour")}, "`transform: standard`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    file: dict[str, Any], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    table = a_table()
    colour = Categorical(np.zeros(table.rows, np.int32), ("red",))
    table = Table(table.rows, table.numeric, categorical={"colour": colour})
    with pytest.raises(FitError, match=sentence):
        read(table, written(tmp_path, **file), **options)


def test_what_is_no_onnx_file_or_no_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"nonsense", perceptron(tmp_path, layers_of([3, 3])).read_bytes()[:100]):
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(FitError, match=r"onnxruntime .* cannot read it"):
            read(a_table(), tmp_path / "bad")
    with pytest.raises(FitError, match="cannot be read"):
        read(a_table(), tmp_path)
    with pytest.raises(StreamdError, match="no numeric column"):
        read(Table(5), perceptron(tmp_path, layers_of([3, 3])))


def test_weights_with_one_byte_of_the_file_changed_are_refused(tmp_path: Path) -> None:
    learned = OnnxSettings(path=perceptron(tmp_path, layers_of([3, 3]))).learn(a_table(), a_table(), unwatched)
    changed = learned.tensors["file"].copy()
    changed[-20] ^= 1
    with pytest.raises(ValueError, match="the ONNX file in these weights is not"):
        registry.load(fitted(Learned(learned.described, {**learned.tensors, "file": changed}, "")))
    with pytest.raises(ValueError, match="lacks a part"):
        registry.load(fitted(Learned({}, learned.tensors, "")))
