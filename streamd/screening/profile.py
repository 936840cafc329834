"""The reference profile of a screened data set: a bundle without a scorer, which the daemon compares with."""

from __future__ import annotations

from collections.abc import Collection

from streamd.fitting.folder import BundleFolder
from streamd.screening.model import Screening
from streamd.table import Table


def features(screening: Screening, leave_out: Collection[str]) -> tuple[str, ...]:
    """Names of the columns that a served model can be sent: numbers and categories."""
    return tuple(c.name for c in screening.columns if c.type in ("numeric", "categorical") and c.name not in leave_out)


def profile(screening: Screening, leave_out: Collection[str] = ()) -> BundleFolder:
    """The bundle.

    Args:
        leave_out: columns that the served model does not get: the label, names of rows.
    """
    kept = features(screening, leave_out)
    sample = screening.sample
    reference = Table(
        sample.rows,
        {name: sample.numeric[name] for name in kept if name in sample.numeric},
        categorical={name: sample.categorical[name] for name in kept if name in sample.categorical},
    )
    description = {
        "source": screening.source,
        "columns": {"numeric": list(reference.numeric), "categorical": list(reference.categorical), "arrays": {}},
        "rows": {"there": screening.rows, "kept": reference.rows},
        "findings": [finding.sentence for finding in screening.findings if finding.severity.word != "info"],
    }
    return BundleFolder(description, None, reference)
