"""JSON text to values: strict where it must be, lenient with numbers that JSON cannot write.

orjson does the work. Around it, what it leaves open: nesting is bounded before anything is built, a name
that comes twice in one object is an error (orjson would keep the last), and the tokens NaN, Infinity,
-Infinity and numbers too large for a double, which Python's `json.dumps` and others write, are read as what
they mean.

The checks look at the text outside its strings, where a bracket is a level and a colon is a pair:

    {"a:b": [1, {"c": "}"}]}   →   {: [1, {: }]}
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import orjson

from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_OPEN, _CLOSE = ord("{"), ord("}")
_BRACKET_TO_BRACE = 0x20  # the bit that [ and {, ] and } differ in


def parse_json(text: bytes, limits: Limits) -> Any:
    """The value that `text` stands for.

    Raises:
        InvalidRecord: TOO_DEEP, TOO_LARGE (more containers than the limit), BAD_UTF8, NOT_JSON, DUPLICATE_NAME.
    """
    skeleton = _outside_strings(text)
    _check_nesting(skeleton, limits)
    value = _load(text)
    pairs = skeleton.count(b":")
    if pairs != _count_pairs(value, thorough=False) and pairs != _count_pairs(value, thorough=True):
        json.loads(text, object_pairs_hook=_refuse_duplicates, parse_int=_parse_int)
        raise AssertionError("a pair was lost, and no name is there twice")
    return value


def _outside_strings(text: bytes) -> bytes:
    if b"\\" in text:
        return _STRING.sub(b"", text)
    return b"".join(text.split(b'"')[::2])


def _check_nesting(skeleton: bytes, limits: Limits) -> None:
    characters = np.frombuffer(skeleton, np.uint8) | _BRACKET_TO_BRACE
    opens = np.flatnonzero(characters == _OPEN)
    if len(opens) > limits.containers:
        raise InvalidRecord(
            Reason.TOO_LARGE, f"{len(opens)} JSON arrays and objects in one record, {limits.containers} are allowed"
        )
    if len(opens) <= limits.depth:
        return
    closes = np.flatnonzero(characters == _CLOSE)
    # The depth at the k-th opening: k opened so far, less those closed before it.
    depth = int(np.max(np.arange(1, len(opens) + 1) - np.searchsorted(closes, opens)))
    if depth > limits.depth:
        raise InvalidRecord(Reason.TOO_DEEP, f"JSON nested {depth} levels deep, {limits.depth} are allowed")


def _load(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        complaint = str(error)
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise InvalidRecord(Reason.BAD_UTF8, f"not UTF-8 at byte {error.start}: {error.reason}") from None
    try:
        value = json.loads(decoded, parse_int=_parse_int)
        if _SURROGATE.search(text):
            # json reads half a surrogate pair, which no encoder can write again.
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        # orjson's words, which say where; for the rest the two agree.
        raise InvalidRecord(Reason.NOT_JSON, f"not JSON: {complaint}") from None
    return value


def _parse_int(digits: str) -> int | float:
    """As orjson: what a 64-bit integer cannot hold is a double (int() of a megabyte of digits takes seconds)."""
    return int(digits) if len(digits) < 19 else float(digits)


def _count_pairs(value: Any, *, thorough: bool) -> int:
    """How many name-value pairs there are. Not thorough: of a list only the first item says what the rest are."""
    pairs = 0
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            pairs += len(item)
            todo.extend(child for child in item.values() if isinstance(child, dict | list))
        elif isinstance(item, list) and item:
            if thorough:
                todo.extend(child for child in item if isinstance(child, dict | list))
            elif isinstance(item[0], dict):
                todo.extend(item)
    return pairs


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidRecord(
                Reason.DUPLICATE_NAME, f"the name {name[:80]!r} is there twice in one object: which one is meant?"
            )
        seen.add(name)


def json_number(value: float) -> float | str:
    """The number as JSON can hold it; not finite: a word that Python's `float` and JavaScript's `Number` read.

    >>> json_number(0.5), json_number(float("nan")), json_number(float("-inf"))
    (0.5, 'NaN', '-Infinity')
    """
    if math.isnan(value):
        return "NaN"
    return float(value) if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
