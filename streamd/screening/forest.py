"""The strangest rows, by an isolation forest that is grown from the drawn rows; and why."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamd.fitting.base import FitError, unwatched
from streamd.scorers import registry
from streamd.scorers.base import Scorer
from streamd.scorers.fitted import Fitted
from streamd.screening.facts import Facts, Options
from streamd.screening.model import StrangeRow
from streamd.screening.values import Field
from streamd.screening.wording import number
from streamd.table import Table

SAMPLE_ROWS = 10_000  # of the drawn ones: a hundred trees are grown from 256 each
COLUMNS_MAX = 500  # wider data would take longer than all the rest; the columns that vary most in kind are first
CATEGORIES_MAX = 1000  # a column of more is a name, and every name is rare
SHOWN, SHOWN_SHARE = 10, 0.01  # rows that are named, at most; of few rows a hundredth
REASONS = 4


def grown(sample: Table, fields: Sequence[Field], options: Options) -> Scorer | None:
    """From the drawn rows, without the time; None where there is nothing to grow from, or no scikit-learn."""
    numeric = [f.name for f in fields if f.type == "numeric" and np.isfinite(sample.numeric[f.name]).any()]
    texts = [n for n, c in sample.categorical.items() if 1 < len(c.categories) <= CATEGORIES_MAX]
    names = [name for name in [*numeric, *texts] if name != options.label][:COLUMNS_MAX]
    table = Table(
        sample.rows,
        {name: sample.numeric[name] for name in names if name in sample.numeric},
        categorical={name: sample.categorical[name] for name in names if name in sample.categorical},
    )
    if table.rows < 100 or not names:
        return None
    step = -(-table.rows // SAMPLE_ROWS)
    table = table.take(np.arange(0, table.rows, step))
    try:
        from streamd.fitting.isolation import IsolationSettings

        settings = IsolationSettings()
        learned = settings.learn(table, table.take(np.arange(0)), unwatched)
    except (FitError, ImportError):
        return None
    fitted = Fitted(settings.kind, learned.described, learned.tensors, np.empty(0), np.inf, learned.note)
    return registry.load(fitted, "cpu")


def strange_rows(facts: Facts, forest: Scorer) -> tuple[StrangeRow, ...]:
    """The strangest rows that the second pass found, with what makes them so."""
    counted = facts.counted
    if not counted.strange_tables:
        return ()
    table = counted.strange_tables[0]
    table = table.take(np.arange(min(SHOWN, table.rows, math.ceil(SHOWN_SHARE * facts.rows))))
    scores = forest.score(table)
    added = scores.explain(np.arange(table.rows))  # (features, rows)
    found = []
    for i in range(table.rows):
        total = float(added[:, i].sum()) or 1.0
        largest = np.argsort(-added[:, i], kind="stable")[:REASONS]
        reasons = [
            (forest.features[f], _value(table, forest.features[f], i), float(added[f, i]) / total)
            for f in largest.tolist()
            if added[f, i] > 0
        ]
        found.append(StrangeRow(int(counted.strange_rows[i]), float(counted.strange_scores[i]), tuple(reasons)))
    return tuple(found)


def _value(table: Table, name: str, row: int) -> str:
    if name in table.numeric:
        value = float(table.numeric[name][row])
        return "missing" if np.isnan(value) else number(value) if np.isfinite(value) else str(value)
    column = table.categorical[name]
    return column.categories[column.codes[row]] if column.codes[row] >= 0 else "missing"
