"""What must hold, as a person wrote it: ranges, sets, regular expressions, relations between columns.

columns:
  age: {min: 0, max: 120, whole: true, missing: false}
  country: {in: [DE, FR, IT]}
  email: {matches: "[^@]+@[^@]+"}
relations:
  - end >= start
  - net <= gross
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field as Option
from pydantic import ValidationError, field_validator

from streamd.dataset import DataFileError
from streamd.screening.sketches import Rows
from streamd.screening.values import Numeric, Text, Values
from streamd.settings import Settings

ROWS_NAMED = 20  # of those that break a rule
_RELATION = re.compile(r"^\s*(?P<left>.+?)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<right>.+?)\s*$")
_SIGNS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip


class ColumnRule(Settings):
    """What must hold in each row of one column. A missing value breaks `missing: false` alone."""

    min: float | None = None
    max: float | None = None
    whole: bool = False
    """Whole numbers alone."""

    allowed: tuple[str | bool | float, ...] | None = Option(default=None, alias="in")
    """These values alone."""

    matches: str | None = None
    """A regular expression that the whole of each text matches (Python's `re`)."""

    missing: bool = True
    """False: no value may be missing."""

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern


class Rules(Settings):
    """All that must hold."""

    columns: dict[str, ColumnRule] = Option(default_factory=dict)
    relations: tuple[str, ...] = ()
    """`left SIGN right`, each a column or a number; rows where either is missing are left alone."""

    @field_validator("relations")
    @classmethod
    def _readable(cls, relations: tuple[str, ...]) -> tuple[str, ...]:
        for relation in relations:
            if not _RELATION.match(relation):
                raise ValueError(f"{relation!r} is no relation: write it as end >= start")
        return relations

    def none_broken(self) -> list[Broken]:
        """One for each rule, in the order of `check`."""
        return [Broken(names, text) for names, text, _ in self._each()]

    def check(self, columns: Mapping[str, Values], first_row: int) -> list[Broken]:
        """Which rows of a batch break which rule."""
        found = []
        for names, text, test in self._each():
            broken = np.flatnonzero(test(columns))
            found.append(Broken(names, text, len(broken), first_row + broken[:ROWS_NAMED]))
        return found

    def check_names(self, names: tuple[str, ...]) -> None:
        """Raises DataFileError for a rule on a column that is not there."""
        for rule_names, text, _ in self._each():
            for name in rule_names:
                if name not in names:
                    raise DataFileError(f"the rule `{text}` names the column {name!r}, which is not there")

    def _each(self) -> Iterator[tuple[tuple[str, ...], str, Test]]:
        for name, rule in self.columns.items():
            for text, test in _column_tests(name, rule):
                yield (name,), text, test
        for relation in self.relations:
            parts = _RELATION.match(relation)
            assert parts is not None
            names = tuple(side for side in (parts["left"], parts["right"]) if _number(side) is None)
            yield names, relation, _relation_test(parts["left"], parts["sign"], parts["right"])


Test = Callable[[Mapping[str, Values]], NDArray[np.bool_]]
"""(rows,) True where the rule is broken."""


@dataclass(slots=True, eq=False)
class Broken:
    """One rule, and the rows that break it."""

    columns: tuple[str, ...]
    rule: str
    count: int = 0
    rows: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    def merge(self, other: Broken) -> None:
        self.count += other.count
        self.rows = np.concatenate([self.rows, other.rows])[:ROWS_NAMED]


def read_rules(path: Path) -> Rules:
    """rules.yaml.

    Raises:
        OSError: it cannot be read.
        DataFileError: it is no set of rules; the text says what is wrong and where.
    """
    try:
        told = yaml.safe_load(path.read_text()) or {}
        return Rules.model_validate(told)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataFileError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataFileError(f"{path}: {where or 'it'}: {first['msg']}") from error


def _column_tests(name: str, rule: ColumnRule) -> Iterator[tuple[str, Test]]:
    low, high = rule.min, rule.max
    if low is not None:
        yield f"{name} >= {low:g}", lambda columns: numbers(columns[name]) < low
    if high is not None:
        yield f"{name} <= {high:g}", lambda columns: numbers(columns[name]) > high
    if rule.whole:
        yield f"{name} is a whole number", lambda columns: _fractions(numbers(columns[name]))
    if rule.allowed is not None:
        allowed = rule.allowed
        yield f"{name} is one of {', '.join(map(_word, allowed))}", lambda columns: _not_in(columns[name], allowed)
    if rule.matches is not None:
        pattern = re.compile(rule.matches)
        yield f"{name} matches {rule.matches}", lambda columns: _unmatched(columns[name], pattern)
    if not rule.missing:
        yield f"{name} is never missing", lambda columns: _missing(columns[name])


def numbers(values: Values) -> NDArray[np.float64]:
    """(rows,) of a numeric column; NaN everywhere of another: no number, no comparison."""
    if isinstance(values, Numeric):
        return values.values
    return np.full(len(values.codes) if isinstance(values, Text) else 0, np.nan)


def _fractions(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    broken: NDArray[np.bool_] = np.isfinite(values) & (values != np.floor(values))
    return broken


def _word(value: str | bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _not_in(values: Values, allowed: tuple[str | bool | float, ...]) -> NDArray[np.bool_]:
    if isinstance(values, Numeric):
        known = np.array([float(each) for each in allowed if not isinstance(each, str)])
        broken: NDArray[np.bool_] = ~np.isnan(values.values) & ~np.isin(values.values, known)
        return broken
    words = {_word(each) for each in allowed}
    return _each_name(values, lambda name: name not in words)


def _unmatched(values: Values, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return _each_name(values, lambda name: pattern.fullmatch(name) is None)


def _each_name(values: Values, broken: Callable[[str], bool]) -> NDArray[np.bool_]:
    if not isinstance(values, Text):
        return np.zeros(0, np.bool_)
    return np.array([*map(broken, values.names), False])[values.codes]  # the last is what a missing value reads


def _missing(values: Values) -> NDArray[np.bool_]:
    if isinstance(values, Numeric):
        return np.isnan(values.values)
    return values.codes < 0 if isinstance(values, Text) else np.zeros(0, np.bool_)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _relation_test(left: str, sign: str, right: str) -> Test:
    compare = _SIGNS[sign]

    def broken(columns: Mapping[str, Values]) -> NDArray[np.bool_]:
        sides = [columns[side] if _number(side) is None else _number(side) for side in (left, right)]
        if all(isinstance(side, Text) for side in sides) and sign in ("==", "!="):
            hashes = [side.hashes_of_rows() for side in sides if isinstance(side, Text)]
            present = np.logical_and(*(side.codes >= 0 for side in sides if isinstance(side, Text)))
            return np.asarray(present & ~compare(*hashes))
        values = [side if isinstance(side, float) else numbers(side) for side in sides if side is not None]
        present = ~np.isnan(values[0] + values[1])
        return np.asarray(present & ~compare(*values))

    return broken
