"""The strangest rows, by an isolation forest that is grown from the drawn rows; and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

SAMPLE_ROWS = 20_000  # of the drawn ones: trees are grown from 256 each
COLUMNS_MAX = 500  # wider data would take longer than all the rest; the columns that vary most in kind are first
CATEGORIES_MAX = 1000  # a column of more is a name, and every name is rare
SHOWN = 10
REASONS = 4
LIMIT_SHARE = 0.999  # of the drawn rows' scores; what the second pass finds over it is remembered


@dataclass(frozen=True, eq=False)
class Forest:
    """A grown forest, the columns it reads, and the score from which a row is remembered."""

    scorer: Scorer
    limit: float


def grown(sample: Table, fields: Sequence[Field], options: Options) -> Forest | None:
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
    scorer = registry.load(fitted, "cpu")
    scores = scorer.score(table).values
    return Forest(scorer, float(np.nanquantile(scores, LIMIT_SHARE)) if np.isfinite(scores).any() else np.inf)


def strange_rows(facts: Facts, forest: Forest) -> tuple[StrangeRow, ...]:
    """The strangest rows that the second pass found, with what makes them so."""
    counted = facts.counted
    if not counted.strange_tables:
        return ()
    table = counted.strange_tables[0]
    table = table.take(np.arange(min(SHOWN, table.rows)))
    scores = forest.scorer.score(table)
    added = scores.explain(np.arange(table.rows))  # (features, rows)
    found = []
    for i in range(table.rows):
        total = float(added[:, i].sum()) or 1.0
        largest = np.argsort(-added[:, i], kind="stable")[:REASONS]
        reasons = [
            (forest.scorer.features[f], _value(table, forest.scorer.features[f], i), float(added[f, i]) / total)
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
