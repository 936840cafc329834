"""What a screening says of small data, against scipy, numpy and plain loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from streamd.dataset import DataFileError
from streamd.screening import screen, source
from streamd.screening.model import Finding, Screening, Severity

ROWS = 5000


def kinds(screening: Screening, column: str) -> dict[str, Finding]:
    return {finding.kind: finding for finding in screening.about(column)}


def test_the_counts_beyond_3_sigma_and_beyond_the_fences_are_those_of_scipy_and_numpy() -> None:
    values = np.random.default_rng(0).standard_t(3, ROWS)
    values[17] = np.nan
    numbers = screen(pa.table({"x": values})).columns[0].numbers
    assert numbers is not None
    finite = values[~np.isnan(values)]
    first, third = np.quantile(finite, [0.25, 0.75])
    low, high = first - 1.5 * (third - first), third + 1.5 * (third - first)
    assert numbers.beyond_3_sigma == int((np.abs(stats.zscore(finite)) > 3).sum())
    assert abs(numbers.beyond_fences - int(((finite < low) | (finite > high)).sum())) <= 3  # quartiles by a digest
    farthest = sorted(np.flatnonzero(~np.isnan(values)), key=lambda row: -abs(values[row] - (low + high) / 2))
    assert [row for row, _ in numbers.worst[:5]] == farthest[:5]
    assert numbers.histogram.counts.sum() == len(finite)


def test_chunks_of_any_size_give_the_same_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 300, ROWS).astype(float)
    x[[7, 4000]] = 9000.0
    x[1000:1500] = 7.0
    table = pa.table(
        {"x": x, "c": np.array(["a", "b", "c"])[rng.integers(0, 3, ROWS)], "d": np.tile([1, 2], ROWS // 2)}
    )
    whole = screen(table, forest=False).to_json()
    monkeypatch.setattr(source, "CHUNK_ROWS", 700)
    parts = screen(table, forest=False).to_json()
    assert [f["sentence"] for f in parts["findings"]] == [f["sentence"] for f in whole["findings"]]
    for one, other in zip(parts["columns"], whole["columns"], strict=True):
        assert (one["distinct"], one["missing"]) == (other["distinct"], other["missing"])
        if "numbers" in one:
            assert one["numbers"]["worst"] == other["numbers"]["worst"]
            assert one["numbers"]["mean"] == pytest.approx(other["numbers"]["mean"], rel=1e-12)
            assert one["numbers"]["histogram"]["counts"] == other["numbers"]["histogram"]["counts"]


def test_the_same_data_give_the_same_findings_bit_for_bit() -> None:
    table = pa.table({"x": np.random.default_rng(2).lognormal(size=300_000)})
    assert screen(table).to_json() == screen(table).to_json()


def test_the_json_is_json_whatever_the_values() -> None:
    screening = screen(pa.table({"x": [np.inf, np.nan, 1.0] * 50, "y": [None] * 150}))
    assert json.loads(json.dumps(screening.to_json(), allow_nan=False))["findings"]


def test_worse_findings_come_first() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=ROWS)
    x[5] = np.inf
    screening = screen(
        pa.table({"zeros": np.where(rng.random(ROWS) < 0.6, 0, rng.random(ROWS)), "x": x, "k": [1] * ROWS})
    )
    severities = [finding.severity for finding in screening.findings]
    assert severities == sorted(severities, reverse=True)
    assert screening.severity is Severity.CRITICAL


def test_a_rule_that_does_not_hold_names_its_rows(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "columns:\n  age: {min: 0, max: 120, whole: true}\n  country: {in: [DE, FR]}\n  mail: {matches: '[^@]+@.+'}\n"
        "  name: {missing: false}\nrelations:\n  - end >= start\n"
    )
    table = pa.table(
        {
            "age": [30.0, -1.0, 130.0, 30.5, None],
            "country": ["DE", "FR", "XX", None, "DE"],
            "mail": ["a@b", "ab", "c@d", None, "@"],
            "name": ["a", None, "c", "d", "e"],
            "start": [1, 2, 3, 4, 5],
            "end": [1, 1, None, 4, 6],
        }
    )
    broken = {f.evidence["rule"]: f.evidence["rows"] for f in screen(table, rules=rules).findings if f.kind == "rule"}
    assert broken == {
        "age >= 0": [1],
        "age <= 120": [2],
        "age is a whole number": [3],
        "country is one of DE, FR": [2],
        "mail matches [^@]+@.+": [1, 4],
        "name is never missing": [1],
        "end >= start": [1],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("columns: {a: {matches: '('}}", "no regular expression"),
        ("relations: [a b]", "no relation"),
        ("columns: {nowhere: {min: 0}}", "'nowhere', which is not there"),
        ("columns: [", "no YAML"),
        ("columns: {a: {minimum: 0}}", "minimum"),
    ],
)
def test_rules_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(DataFileError, match=words):
        screen(pa.table({"a": [1, 2]}), rules=tmp_path / "rules.yaml")


def test_a_set_is_compared_by_the_detectors_own_tests() -> None:
    rng = np.random.default_rng(4)
    before = pa.table({"x": rng.normal(size=ROWS), "still": rng.normal(size=ROWS), "c": rng.choice(["a", "b"], ROWS)})
    after = pa.table(
        {"x": rng.normal(1, 1, ROWS), "still": rng.normal(size=ROWS), "c": rng.choice(["a", "b"], ROWS, p=[0.9, 0.1])}
    )
    found = {f.columns[0]: f for f in screen(after, reference=before).findings if f.kind == "drift"}
    assert set(found) == {"x", "c"}
    old, new = before["x"].to_numpy(), after["x"].to_numpy()
    assert found["x"].evidence["statistic"] == pytest.approx(stats.ks_2samp(old, new).statistic)
    expected = stats.wasserstein_distance(old, new) / old.std()
    assert found["x"].evidence["wasserstein"] == pytest.approx(expected)
    edges = np.concatenate([[-np.inf], np.quantile(old, np.arange(0.1, 0.95, 0.1)), [np.inf]])
    then, now = (np.histogram(values, edges)[0] / ROWS for values in (old, new))
    assert found["x"].evidence["psi"] == pytest.approx(((now - then) * np.log(now / then)).sum(), rel=1e-3)


def test_a_set_without_a_column_of_the_reference_is_critical() -> None:
    before = pa.table({"x": np.arange(300.0), "y": np.arange(300.0), "z": [1] * 300})
    after = pa.table({"x": np.arange(300.0), "z": ["a"] * 300, "new": [1] * 300})
    found = {f.kind: f for f in screen(after, reference=before).findings}
    assert found["lost_columns"].columns == ("y",)
    assert found["type_changed"].columns == ("z",)
    assert found["new_columns"].severity is Severity.INFO


def test_a_shift_that_is_sure_but_small_is_no_drift() -> None:
    rng = np.random.default_rng(12)
    one, other = (pa.table({"x": rng.normal(mean, 1, 20_000)}) for mean in (0.0, 0.2))
    assert stats.ks_2samp(one["x"], other["x"]).pvalue < 1e-9
    assert [f for f in screen(one, reference=other).findings if f.kind == "drift"] == []


def test_halves_of_one_set_do_not_drift() -> None:
    rng = np.random.default_rng(5)
    one, other = (pa.table({f"x{i}": rng.normal(size=ROWS) for i in range(20)}) for _ in range(2))
    assert [f for f in screen(one, reference=other).findings if f.kind == "drift"] == []


def test_a_column_made_from_the_label_leaks_and_a_good_feature_does_not() -> None:
    rng = np.random.default_rng(6)
    label = rng.integers(0, 2, ROWS)
    table = pa.table({"y": label, "good": label + rng.normal(0, 0.5, ROWS), "leak": label * 10 + rng.normal(size=ROWS)})
    screening = screen(table, label="y")
    assert "leakage" in kinds(screening, "leak")
    assert "leakage" not in kinds(screening, "good")


def test_a_leak_towards_a_quantity_is_told_too() -> None:
    rng = np.random.default_rng(7)
    price = rng.lognormal(size=ROWS)
    table = pa.table({"price": price, "tax": price * 0.19, "noise": price + rng.normal(0, 1, ROWS)})
    found = {f.columns[0] for f in screen(table, label="price").findings if f.kind == "leakage"}
    assert found == {"tax"}


def test_rows_of_few_values_are_copies_by_chance_and_not_accused() -> None:
    rng = np.random.default_rng(8)
    table = pa.table({"a": rng.integers(0, 3, ROWS), "b": rng.choice(["x", "y"], ROWS)})
    (copies,) = [finding for finding in screen(table).findings if finding.kind == "duplicate_rows"]
    assert copies.severity is Severity.INFO
    assert copies.evidence["count"] == ROWS - 6


def test_the_strangest_row_is_named_with_the_columns_that_make_it_strange() -> None:
    rng = np.random.default_rng(9)
    columns = {f"x{i}": rng.normal(size=ROWS) for i in range(6)}
    for name in ("x1", "x3", "x4"):
        columns[name][1234] = 9.0
    strange = screen(pa.table(columns)).strange_rows[0]
    assert strange.row == 1234
    assert {name for name, _, _ in strange.reasons[:3]} == {"x1", "x3", "x4"}
    assert strange.reasons[0][1] == "9"


def test_a_stretch_of_rows_of_another_population_is_named() -> None:
    rng = np.random.default_rng(10)
    age, kind = rng.normal(40, 10, 20_000), rng.choice(["own", "rent"], 20_000)
    age[8000:9000], kind[8000:9000] = rng.normal(75, 5, 1000), "home"
    (stretch,) = [f for f in screen(pa.table({"age": age, "kind": kind})).findings if f.kind == "odd_stretch"]
    assert set(stretch.columns) == {"age", "kind"}
    assert (stretch.evidence["first"], stretch.evidence["last"]) == (8000, 9000)


def test_a_random_walk_of_time_is_read_from_iso_text_and_its_gap_is_found() -> None:
    minutes = np.arange(3000) + np.where(np.arange(3000) >= 2000, 600, 0)
    at = (np.datetime64("2026-03-01T00:00") + minutes.astype("timedelta64[m]")).astype(str)
    screening = screen(pa.table({"at": at, "x": np.random.default_rng(11).normal(size=3000)}), time="at")
    gaps = kinds(screening, "at")["gaps"]
    assert gaps.evidence["longest"][0] == {"seconds": 601 * 60.0, "from": "2026-03-02 09:19", "row": 2000}


def test_partitions_of_a_folder_are_columns(tmp_path: Path) -> None:
    pq.write_to_dataset(pa.table({"x": np.arange(300.0), "year": [2025, 2026, 2026] * 100}), tmp_path, ["year"])
    screening = screen(tmp_path)
    assert {column.name for column in screening.columns} == {"x", "year"}
    assert screening.rows == 300


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    screen(pa.table({"x": np.arange(1000.0)}), progress=lambda done, most: told.append((done, most)))
    assert told[-1] == (2000, 2000)
