"""Grow an isolation forest with scikit-learn, and flatten its trees for our own walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamd.fitting.base import FitError, Learned, Progress, ScorerSettings
from streamd.scorers.isolation import KIND, Forest
from streamd.scorers.transform import learn_transform
from streamd.table import FloatArray, Table, concatenate

if TYPE_CHECKING:
    from sklearn.ensemble import IsolationForest

LEAF = -1
BOUND = 1e6  # in deviations: trees split by order, but scikit-learn wants numbers that are finite in float32


class IsolationSettings(ScorerSettings):
    """Options of `isolation`. Fast, without tuning, good where single rows lie apart; it sees no order of rows."""

    type: Literal["isolation"] = "isolation"

    trees: int = Field(default=100, ge=1, le=10_000)
    """More make the score steadier, and slower in proportion. 100 is the paper's."""

    rows_per_tree: int = Field(default=256, ge=2)
    """Rows that a tree is grown from: the paper's. More hide clusters of outliers among themselves."""

    inputs_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the inputs that a tree may split by. Fewer help where most columns say nothing."""

    contamination: Literal["auto"] | Annotated[float, Field(gt=0, le=0.5)] = "auto"
    """Share of the learned rows that score above 0, up to 0.5. `auto`: 0 is the score of a row of middling depth, as
    in the paper. It moves all scores alike: which rows are named is the threshold's to say."""

    categories_max: int = Field(default=20, ge=1)
    """Inputs that one categorical column may have, for its commonest categories."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the rows, columns and thresholds that are drawn."""

    @property
    def kind(self) -> str:
        return KIND

    def candidates(self) -> tuple[ScorerSettings, ...]:
        return self.varied({"rows_per_tree": (self.rows_per_tree, 64, 1024), "inputs_share": (self.inputs_share, 0.5)})

    def learn(self, learned: Table, validating: Table, progress: Progress) -> Learned:
        """Nothing has to be stopped, so the validating rows are learned from too."""
        from sklearn.ensemble import IsolationForest

        table = concatenate([learned, validating])
        if table.rows < 2:
            raise FitError(f"an isolation forest needs two rows or more, not {table.rows}")
        transform = learn_transform(table, BOUND, self.categories_max, indicators=True)
        if not transform.inputs:
            raise FitError("no column has a value: there is nothing to learn from")
        grown = IsolationForest(
            n_estimators=self.trees,
            max_samples=min(self.rows_per_tree, table.rows),
            max_features=self.inputs_share,
            contamination=self.contamination,
            random_state=self.seed,
        ).fit(transform(table).T)
        forest = flattened(grown)
        described = {"transform": transform.described(), "forest": forest.described()}
        note = f"isolation forest: {self.trees} trees of {grown.max_samples_} of {table.rows} rows, "
        return Learned(described, {**transform.tensors(), **forest.tensors()}, f"{note}{transform.inputs} inputs")


def flattened(forest: IsolationForest) -> Forest:
    """The same trees as arrays: see `scorers.kernels_forest`.

    scikit-learn compares a float32 value with a float64 threshold. The next float32 at or below that threshold
    divides the float32 values alike.
    """
    parts: dict[str, list[Any]] = {name: [] for name in ("thresholds", "columns", "children", "lengths")}
    roots, depths, begin = [], [], 0
    inputs = int(forest.n_features_in_)
    for estimator, features in zip(forest.estimators_, forest.estimators_features_, strict=True):
        tree = estimator.tree_
        levels = _levels(tree.children_left, tree.children_right)
        order = np.concatenate(levels)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        leaf = tree.children_left[order] == LEAF
        missing_right = np.logical_not(tree.missing_go_to_left[order])
        columns = np.asarray(features)[np.where(leaf, 0, tree.feature[order])] + inputs * missing_right
        parts["thresholds"].append(np.where(leaf, np.float32(np.inf), _float32_below(tree.threshold[order])))
        parts["columns"].append(np.where(leaf, 0, columns))
        parts["children"].append(begin + place[np.where(leaf, order, tree.children_left[order])])
        parts["lengths"].append(_lengths(tree, levels)[order])
        roots.append(begin)
        depths.append(len(levels) - 1)
        begin += len(order)
    return Forest(
        thresholds=np.concatenate(parts["thresholds"], dtype=np.float32),
        columns=np.concatenate(parts["columns"]).astype(np.uint32),
        children=np.concatenate(parts["children"]).astype(np.uint32),
        lengths=np.concatenate(parts["lengths"]),
        roots=np.array(roots, np.uint32),
        depths=np.array(depths, np.uint32),
        inputs=inputs,
        normaliser=float(mean_search_length(np.array([forest.max_samples_]))[0]),
        offset=float(forest.offset_),
    )


def mean_search_length(rows: NDArray[np.int64]) -> FloatArray:
    """c(n) of Liu, Ting and Zhou 2008: the mean length of an unsuccessful search in a binary tree of n rows.

    >>> mean_search_length(np.array([1, 2, 256])).round(2)
    array([ 0.  ,  1.  , 10.24])
    """
    n = np.maximum(rows, 3).astype(np.float64)
    long = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    lengths: FloatArray = np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, long))
    return lengths


def _levels(left: NDArray[np.intp], right: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The nodes of a tree, level by level from the root, brothers side by side."""
    levels = [np.zeros(1, np.intp)]
    while len(inner := levels[-1][left[levels[-1]] != LEAF]):
        levels.append(np.column_stack([left[inner], right[inner]]).ravel())
    return levels


def _lengths(tree: Any, levels: list[NDArray[np.intp]]) -> FloatArray:
    """(nodes,) in scikit-learn's order: what a path that ends in a leaf counts, and the mean over a node's rows.

    A leaf with n rows would have split them further: c(n) stands for those steps.
    """
    counts = np.asarray(tree.n_node_samples, np.int64)
    lengths = mean_search_length(counts)
    for depth in reversed(range(len(levels))):
        nodes = levels[depth]
        leaf = tree.children_left[nodes] == LEAF
        lengths[nodes[leaf]] += depth
        inner = nodes[~leaf]
        left, right = tree.children_left[inner], tree.children_right[inner]
        lengths[inner] = (lengths[left] * counts[left] + lengths[right] * counts[right]) / counts[inner]
    return lengths


def _float32_below(values: FloatArray) -> NDArray[np.float32]:
    """The largest float32 that is not over each value."""
    near = values.astype(np.float32)
    lower: NDArray[np.float32] = np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
    return lower
