"""The summary of a column of categories against plain loops."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from streamd.screening import kernels
from streamd.screening.model import Axis
from streamd.screening.sizes import Place, Sizes
from streamd.screening.texts import TextSummary
from streamd.screening.values import Field, Text, values_of

AXIS = Axis("time", 0.0, 1.0, 30, 3)  # 10 buckets of a categorical column
Cells = list[tuple[str | None, int]]


def summary_of(cells: Cells, sizes: Sizes, cuts: tuple[int, ...] = (), batch: int = 100) -> TextSummary:
    """Of (category, bucket of the axis) in order; parts between the cuts are summarised apart, pickled and merged."""
    whole = TextSummary(AXIS, sizes)
    edges = [0, *cuts, len(cells)]
    for start, stop in pairwise(edges):
        part = TextSummary(AXIS, sizes)
        for first in range(start, stop, batch):
            rows = cells[first : min(first + batch, stop)]
            column = values_of(pa.chunked_array([pa.array([name for name, _ in rows])]), Field("c", "categorical", ""))
            assert isinstance(column, Text)
            part.add(column, Place(first, np.array([bucket for _, bucket in rows])))
        whole.merge(pickle.loads(pickle.dumps(part)), start)
    return whole


def drawn(rows: int, words: int) -> Cells:
    rng = np.random.default_rng(rows + words)
    names = [f"wörd {i}" for i in rng.integers(0, words, rows)]
    return [
        (None if missing else name, bucket)
        for name, missing, bucket in zip(
            names, rng.random(rows) < 0.1, rng.integers(-1, 30, rows).tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("cuts", [(), (1,), (333, 334), (500, 1000, 1500)])
def test_few_categories_are_counted_as_a_loop_counts_them(cuts: tuple[int, ...]) -> None:
    cells = drawn(2000, 40)
    summary = summary_of(cells, Sizes.of(1, 2000), cuts)
    counts = Counter(name for name, _ in cells)
    firsts = {name: next(row for row, cell in enumerate(cells) if cell[0] == name) for name in counts}
    buckets: dict[str | None, Counter[int]] = defaultdict(Counter)
    for name, bucket in cells:
        if bucket >= 0:
            buckets[name][bucket // 3] += 1
    assert (summary.rows, summary.missing) == (2000, counts.pop(None))
    assert summary.exact
    assert {c.name: c.rows for c in summary.categories()} == counts
    assert [c.name for c in summary.categories()] == sorted(counts, key=firsts.__getitem__)
    for category in summary.categories():
        assert category.first == firsts[category.name]
        assert category.first_bucket == min(buckets[category.name])
        assert category.filled == len(buckets[category.name])
    del buckets[None]
    assert summary.distinct_over_time().tolist() == [sum(at in b for b in buckets.values()) for at in range(10)]
    names, over_time = summary.counts_over_time()
    assert names == sorted(counts)
    assert over_time.tolist() == [[buckets[name][at] for name in names] for at in range(10)]
    assert summary.bucket_rows.tolist() == over_time.sum(axis=1).tolist()


def test_many_categories_are_a_sample_whose_counts_are_exact() -> None:
    cells = drawn(60_000, 20_000)
    sizes = Sizes(counted=0, exact=False, distinct=1000, pairs=100_000, extremes=0, digest=0)
    summary = summary_of(cells, sizes, (25_000,), 5000)
    counts = Counter(name for name, _ in cells if name is not None)
    assert not summary.exact
    assert 300 < len(summary.categories()) <= 1000
    assert abs(summary.estimate / len(counts) - 1) < 4 * 1.2 / np.sqrt(1000)
    for category in summary.categories():
        assert category.rows == counts[category.name]


def test_no_more_pairs_of_category_and_bucket_are_remembered_than_may_be() -> None:
    sizes = Sizes(counted=0, exact=False, distinct=1000, pairs=200, extremes=0, digest=0)
    summary = summary_of(drawn(5000, 100), sizes, (), 500)
    assert summary.level > 0
    assert sum(category.filled for category in summary.categories()) <= 200


def test_texts_have_one_hash_each_whatever_their_length() -> None:
    words = ["", "a", "b", "ab", "ba", "ä", "a\0", "x" * 1000, "x" * 1001]
    array = pa.array(words, pa.large_binary())
    _, offsets, data = array.buffers()
    places = np.frombuffer(offsets, np.int64)[: len(words) + 1]
    assert len(set(kernels.hash_texts(places, np.frombuffer(data, np.uint8)).tolist())) == len(words)
