"""Every planted defect is found, and no clean column is accused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from planted import RULES, accused, clean_columns, missed, planted

from streamd.screening import screen
from streamd.screening.model import Screening
from streamd.screening.rules import Rules


@pytest.fixture(scope="module")
def screening() -> Screening:
    data = planted(5)
    return screen(data.table, label=data.label, time=data.time, rules=Rules.model_validate(RULES))


@pytest.mark.slow
def test_every_planted_defect_is_found(screening: Screening) -> None:
    assert missed(screening, planted(5)) == []


@pytest.mark.slow
def test_no_clean_column_beside_the_planted_ones_is_accused(screening: Screening) -> None:
    assert accused(screening, planted(5).clean) == []


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, 3_000, 30_000])
def test_clean_columns_are_not_accused(rows: int) -> None:
    columns = clean_columns(np.random.default_rng([11, rows]), rows)
    assert accused(screen(pa.table(columns)), tuple(columns)) == []


@pytest.mark.slow
def test_the_day_of_a_burst_is_named(screening: Screening) -> None:
    (burst,) = [finding for finding in screening.findings if finding.kind == "cardinality_burst"]
    day = str(planted(5).table["at"][15_000].as_py().date())
    assert day in burst.sentence


@pytest.mark.slow
def test_the_row_until_which_a_column_hung_is_exact(screening: Screening) -> None:
    (stuck,) = [finding for finding in screening.findings if finding.kind == "stuck"]
    assert (stuck.evidence["first_row"], stuck.evidence["last_row"]) == (0, 4999)


@pytest.mark.slow
def test_the_rows_of_outliers_are_suspicious(screening: Screening) -> None:
    values = planted(5).table["outliers"].to_numpy()
    far = np.flatnonzero(np.abs(values - 50) > 5 * 25)
    assert set(far.tolist()) <= set(screening.suspicious.tolist())


def test_each_sentence_names_its_columns_and_ends(screening: Screening) -> None:
    for finding in screening.findings:
        assert finding.sentence.endswith(".")
        assert finding.remedy.endswith((".", "?"))
        if len(finding.columns) == 1:
            assert finding.columns[0] in finding.sentence
