"""What pydantic found wrong, as lines for people: `file:line:column key: problem; did you mean …`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from streamd.config import DETECTOR_TYPES, Config
from streamd.configuration.environment import PREFIX
from streamd.configuration.source import Key, Place, Raw, dotted

_MESSAGES: Mapping[str, str] = {
    "bool_parsing": "must be true or false{is}",
    "bool_type": "must be true or false{is}",
    "dict_type": "must hold keys of its own{is}",
    "finite_number": "must be a finite number{is}",
    "float_parsing": "must be a number{is}",
    "float_type": "must be a number{is}",
    "greater_than": "must be greater than {gt}{is}",
    "greater_than_equal": "must be at least {ge}{is}",
    "int_from_float": "must be a whole number{is}",
    "int_parsing": "must be a whole number{is}",
    "int_type": "must be a whole number{is}",
    "less_than": "must be less than {lt}{is}",
    "less_than_equal": "must be at most {le}{is}",
    "list_type": "must be a list{is}",
    "literal_error": "must be {expected}{is}",
    "missing": "is missing",
    "model_attributes_type": "must hold keys of its own{is}",
    "model_type": "must hold keys of its own{is}",
    "path_type": "must be the path of a file{is}",
    "string_pattern_mismatch": "must match {pattern}{is}",
    "string_too_long": "must have at most {max_length} characters{is}",
    "string_too_short": "must have at least {min_length} characters{is}",
    "string_type": "must be text{is}",
    "tuple_type": "must be a list{is}",
    "too_short": "must have at least {min_length} entries{is}",
}
"""pydantic's error type -> our words; `{is}` says what was given, unless it may be a secret."""


def describe(errors: Iterable[ErrorDetails], raw: Raw) -> list[str]:
    """One line for each problem, in the order of the file; what could not be looked up is no problem."""
    lines: dict[str, Place] = {}
    for error in errors:
        key = inherited_key(key_of(error["loc"]), raw)
        if key in raw.unresolved:
            continue
        problem, suggestion = _problem(error, key, raw)
        place = _place(key, problem, raw)
        where = place.exact if place.line == 0 else f"{place.exact} {dotted(key)}".rstrip()
        if place.line == 0 and place.source != variable(key):
            where += f" ({dotted(key)})" if key else ""
        if suggestion:
            problem += f"; did you mean {suggestion}?"
        lines.setdefault(f"{where}: {problem}", place)
    return sorted(lines, key=lambda line: (lines[line].line == 0, lines[line]))


def key_of(loc: tuple[int | str, ...]) -> Key:
    """pydantic's location as the way in the file: without the tags of the union of detectors."""
    key = list(loc)
    at = 1 if key[:1] == ["detectors"] else 3 if key[:1] == ["streams"] and key[2:3] == ["detectors"] else None
    if at is not None and len(key) > at + 1:
        del key[at + 1]
    return tuple(key)


def inherited_key(key: Key, raw: Raw) -> Key:
    """Where a stream rule's value really stands: what it does not name itself is the top level's."""
    if key[:1] == ("streams",) and key not in raw.keys and key[2:] in raw.keys:
        return key[2:]
    return key


def variable(key: Key) -> str:
    """The environment variable that sets `key`."""
    return PREFIX + "__".join(str(part).upper().replace("-", "_") for part in key)


def _place(key: Key, problem: str, raw: Raw) -> Place:
    """Where to point: at the value; for a mapping or a default, at a key in it or beside it that the problem names."""
    if key in raw.keys and "no such key" in problem:
        return raw.keys[key]
    if key in raw.values and not isinstance(_value(raw.data, key), dict):
        return raw.values[key]
    for parent in (key, key[:-1]):
        named = [known for known in raw.values if known[:-1] == parent and known and str(known[-1]) in problem]
        if named:
            return raw.values[named[0]]
    for end in range(len(key), 0, -1):
        if key[:end] in raw.keys:
            return raw.keys[key[:end]]
    return Place("configuration")


def _problem(error: ErrorDetails, key: Key, raw: Raw) -> tuple[str, str | None]:
    """What is wrong, and what was probably meant."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(key, raw)
    if error["loc"][-1:] == ("[key]",):
        return "cannot be a detector's name: letters, digits, `-` and `_`, at most 64 of them", None
    value = _value(raw.data, key)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = value.get("type", key[-1]) if isinstance(value, dict) else key[-1]
        close = get_close_matches(str(tag), DETECTOR_TYPES, 1, 0.5)
        return f"there is no detector of type {tag!r}; there are {', '.join(DETECTOR_TYPES)}", next(iter(close), None)
    shown = _shown(value, key, raw)
    if kind == "value_error":
        problem = error["msg"].removeprefix("Value error, ")
        if key in raw.hidden and isinstance(value, str) and value:
            problem = problem.replace(value, "***")
        return problem, None
    suggestion = None
    if kind == "literal_error" and shown and isinstance(value, str):
        folded = {str(choice).lower(): str(choice) for choice in choices(_annotation(key, raw))}
        suggestion = next((folded[close] for close in get_close_matches(value.lower(), folded, 1)), None)
    template = _MESSAGES.get(kind, error["msg"].replace("{", "{{").replace("}", "}}") + "{is}")
    return template.format(**{**context, "is": shown}), suggestion


def _unknown(key: Key, raw: Raw) -> tuple[str, str | None]:
    """A key that does not exist: a neighbour with such a name, or the same name elsewhere, was meant."""
    place = raw.keys.get(key)
    from_variable = place is not None and place.line == 0
    if from_variable:
        known = {variable(leaf): leaf for leaf in _leaves(Config, ())}
        known |= {variable(("detectors", name, *leaf)): leaf for name in DETECTOR_TYPES for leaf in _detector(name)}
        assert place is not None
        return "there is no such setting", next(iter(get_close_matches(place.source, known, 1, 0.7)), None)
    siblings = _fields(_annotation(key[:-1], raw))
    name = str(key[-1])
    close = get_close_matches(name, siblings, 1) or [sibling for sibling in siblings if name in sibling]
    if not close:
        close = [dotted(leaf) for leaf in _leaves(Config, ()) if leaf[-1] == name]
    if close:
        return "no such key", close[0]
    return f"no such key; there are {', '.join(siblings)}" if siblings else "no such key", None


def _shown(value: Any, key: Key, raw: Raw) -> str:
    """`, is 'abc'`; nothing for what may be a secret, and for what is long."""
    if key in raw.hidden or key not in raw.values or is_secret(_annotation(key, raw)):
        return ""
    if isinstance(value, dict | list):
        return ", is a list" if isinstance(value, list) else ", is a mapping"
    text = "null" if value is None else repr(value)
    return f", is {text}" if len(text) <= 60 else ""


def _value(data: Any, key: Key) -> Any:
    for part in key:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


# --- What the model says about a key --------------------------------------------------------------


def _annotation(key: Key, raw: Raw) -> Any:
    """The type that the model declares for `key`; None where it knows none."""
    annotation: Any = Config
    for i, part in enumerate(key):
        base = key[:i]
        if base == ("detectors",) or (len(base) == 3 and (base[0], base[2]) == ("streams", "detectors")):
            value = _value(raw.data, (*base, part))
            annotation = DETECTOR_TYPES.get(str(value.get("type", part) if isinstance(value, dict) else part))
        else:
            annotation = _inside(annotation, part)
    return annotation


def _inside(annotation: Any, part: str | int) -> Any:
    """The type of `part` of something of this type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field else None
    arguments = [argument for argument in get_args(annotation) if argument not in (type(None), Ellipsis)]
    if get_origin(annotation) in (Union, UnionType):
        return next((found for argument in arguments if (found := _inside(argument, part)) is not None), None)
    return arguments[-1] if arguments else None


def is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(is_secret(argument) for argument in get_args(annotation))


def choices(annotation: Any) -> list[Any]:
    """The words of a Literal, alone or in a union; nothing for other types."""
    if get_origin(annotation) in (Union, UnionType):
        return [choice for argument in get_args(annotation) for choice in choices(argument)]
    return list(get_args(annotation)) if get_origin(annotation) is Literal else []


def _fields(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    return [name for argument in get_args(annotation) for name in _fields(argument)]


def _leaves(model: type[BaseModel], key: Key) -> Iterable[Key]:
    """Every key of the model that holds no keys of its own."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(inner, (*key, name))
        else:
            yield (*key, name)


def _detector(name: str) -> Iterable[Key]:
    return _leaves(DETECTOR_TYPES[name], ())
