"""Several pages of metrics as one, held against prometheus_client's own parsers."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest as as_prometheus
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from streamd.observe.exposition import merged

Dialect = tuple[Callable[[CollectorRegistry], bytes], Callable[[str], Any]]
DIALECTS: list[Dialect] = [(as_prometheus, parse_prometheus), (as_openmetrics, parse_openmetrics)]
ODD = ("plain", "a b", 'quo"te', "{brace}", "back\\slash", "line\nbreak", "\u2028", "# EOF", "")


@pytest.fixture(params=DIALECTS, ids=["prometheus", "openmetrics"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return request.param  # type: ignore[no-any-return]


def registry(scale: float, exemplar: bool = False) -> CollectorRegistry:
    """A counter with odd labels, a gauge without any, a histogram, and a family that has no sample."""
    made = CollectorRegistry()
    rows = Counter("rows_total", "Rows, 'as' \\ they\ncome.", ["stream"], registry=made)
    for i, name in enumerate(ODD):
        rows.labels(name).inc(i * scale)
    Gauge("lag", "Lag.", registry=made).set(scale)
    seconds = Histogram("seconds", "Seconds.", ["topic"], buckets=(0.1, 1.0), registry=made)
    seconds.labels("t").observe(0.5, {"trace": "a"} if exemplar else None)
    Gauge("empty", "Nothing yet.", ["x"], registry=made)
    return made


def samples(families: Any, **more: str) -> Tally[Any]:
    """What a page says, as a bag; what a counter's birthday is does not matter."""
    return Tally(
        (family.name, family.type, sample.name, frozenset({**sample.labels, **more}.items()), sample.value)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    )


def test_every_sample_of_every_worker_is_there_with_its_number_and_nothing_else(dialect: Dialect) -> None:
    encode, parse = dialect
    pages = {number: encode(registry(scale)).decode() for number, scale in (("0", 1.0), ("1", 10.0))}
    whole = merged(pages.items())
    expected = sum((samples(parse(page), worker=number) for number, page in pages.items()), Tally())
    assert samples(parse(whole)) == expected


def test_a_family_is_told_once_even_where_nobody_has_a_sample_of_it(dialect: Dialect) -> None:
    encode, parse = dialect
    page = encode(registry(1.0)).decode()
    whole = merged([("0", page), ("1", page)])
    assert [(f.name, f.type, f.documentation) for f in parse(whole)] == [
        (f.name, f.type, f.documentation) for f in parse(page)
    ]
    assert whole.count("# TYPE empty ") == 1


def test_a_page_without_a_number_stays_as_it_is(dialect: Dialect) -> None:
    encode, parse = dialect
    page = encode(registry(3.0)).decode()
    assert samples(parse(merged([(None, page)]))) == samples(parse(page))


def test_an_exemplar_stays_with_its_sample() -> None:
    page = as_openmetrics(registry(1.0, exemplar=True)).decode()
    found = [s for f in parse_openmetrics(merged([("0", page)])) for s in f.samples if s.exemplar]
    assert [(s.labels["worker"], s.exemplar.labels) for s in found] == [("0", {"trace": "a"})]


def test_of_no_worker_at_all_there_is_an_empty_page() -> None:
    assert merged([]) == ""
