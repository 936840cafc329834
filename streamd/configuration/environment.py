"""Environment variables laid over a file, and `${env:X}` and `${file:path}` looked up in its texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from streamd.configuration.source import Key, Loader, Place, Raw, Reader, dotted, scalar

PREFIX = "STREAMD_"
OTHER_VARIABLES = ("STREAMD_CONFIG", "STREAMD_TEST_", "STREAMD_DEMO_")
"""Variables of streamd that are not settings; those that end in `_` are prefixes."""

# For each Service named `streamd…` Kubernetes puts such variables into every container of its namespace.
_KUBERNETES = re.compile(
    r"STREAMD_(?:[A-Z0-9]+_)*?(?:SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)|PORT_[0-9]+_(?:TCP|UDP|SCTP).*)"
)


def read_environment(raw: Raw, environ: Mapping[str, str]) -> None:
    """Lay the variables `STREAMD_SECTION__KEY` over `raw`. An empty one counts as not set."""
    for name in sorted(environ):
        text = environ[name]
        if not name.startswith(PREFIX) or text == "" or _is_other(name, text):
            continue
        _lay_over(raw, name, text)


def _is_other(name: str, text: str) -> bool:
    if any(name.startswith(other) if other.endswith("_") else name == other for other in OTHER_VARIABLES):
        return True
    if "__" in name:
        return False
    return _KUBERNETES.fullmatch(name) is not None or (name.endswith("_PORT") and text.startswith(("tcp://", "udp://")))


def _lay_over(raw: Raw, name: str, text: str) -> None:
    place = Place(name)
    parts = name.removeprefix(PREFIX).split("__")
    target: Any = raw.data
    key: Key = ()
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        step = _step(target, part)
        if step is None:
            raw.complain(place, (), f"there is no {dotted((*key, part.lower()))} to change")
            return
        key = (*key, step)
        if last:
            break
        target = _child(target, step)
        raw.keys.setdefault(key, place)
    for known in [known for known in raw.keys if known[: len(key)] == key]:
        for table in (raw.keys, raw.values, raw.texts):
            table.pop(known, None)
    value = _variable_value(raw, name, text, key)
    if isinstance(target, list) and key[-1] == len(target):
        target.append(value)
    else:
        target[key[-1]] = value


def _step(target: Any, part: str) -> str | int | None:
    """The key of `target` that `part` of a variable's name means; None where there can be none."""
    if isinstance(target, list):
        return int(part) if part.isdecimal() and int(part) <= len(target) else None
    if not isinstance(target, dict) or not part:
        return None
    # Variables have neither lower case nor dashes: KS_STRICT also means a detector called `ks-strict`.
    folded = part.lower().replace("-", "_")
    return next((known for known in target if known.lower().replace("-", "_") == folded), part.lower())


def _child(target: Any, step: Any) -> Any:
    """What stands at `step`; a new mapping where nothing does."""
    if isinstance(target, list):
        if step == len(target):
            target.append({})
        return target[step]
    if target.get(step) is None:
        target[step] = [] if step == "streams" else {}
    return target[step]


def _variable_value(raw: Raw, name: str, text: str, key: Key) -> Any:
    """A scalar as YAML has it, or a list or mapping in brackets. What is no YAML is text: a password may be `[x`."""
    reader = Reader(raw, name, variable=True)
    if text.lstrip()[:1] in tuple("[{'\""):
        try:
            node = yaml.compose(text, Loader)
        except yaml.YAMLError:
            node = None
        if node is not None:
            value = reader.value(node, key)
            if not isinstance(node, yaml.ScalarNode):
                raw.texts[key] = text
            return value
    raw.keys[key] = raw.values[key] = Place(name)
    raw.texts[key] = text
    # Resolved, not parsed: in `abc #def` a parser would take the end for a comment.
    tag = Loader("").resolve(yaml.ScalarNode, text.strip(), (True, False))  # type: ignore[no-untyped-call]
    return scalar(tag, text.strip() if tag != "tag:yaml.org,2002:str" else text)


# --- ${…} -----------------------------------------------------------------------------------------

_REFERENCE = re.compile(r"\$(?P<plain>\$\{)|\$\{(?:(?P<kind>env|file):(?P<rest>[^}]*)\})?")


class _MalformedReferenceError(Exception):
    """What stands in a `${…}` is no reference."""


class _UnresolvedReferenceError(Exception):
    """A reference that cannot be looked up."""


def interpolate(raw: Raw, environ: Mapping[str, str], look_up: bool) -> None:
    """Replace `${env:X}`, `${env:X:-default}` and `${file:path}` in every text; `$${` stays `${`.

    Args:
        look_up: False leaves a stand-in and remembers it in `raw.unresolved`.
    """
    for key, text in list(_texts(raw.data, ())):
        if "${" not in text:
            continue
        raw.hidden.add(key)
        try:
            new = _REFERENCE.sub(lambda match: _looked_up(match, environ, look_up), text)
        except (_MalformedReferenceError, _UnresolvedReferenceError) as problem:
            raw.unresolved.add(key)
            if look_up or isinstance(problem, _MalformedReferenceError):
                raw.complain(raw.values[key], key, str(problem))
            continue
        raw.texts[key] = new
        target: Any = raw.data
        for part in key[:-1]:
            target = target[part]
        target[key[-1]] = new


def _texts(value: Any, key: Key) -> Iterator[tuple[Key, str]]:
    """Every text in `value`, with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*key, name))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, (*key, i))


def _looked_up(match: re.Match[str], environ: Mapping[str, str], look_up: bool) -> str:
    if match["plain"]:
        return "${"
    kind, rest = match["kind"], match["rest"]
    if kind is None or not rest:
        raise _MalformedReferenceError(
            "write ${env:NAME}, ${env:NAME:-default} or ${file:/path}; $${ stands for a plain ${"
        )
    if not look_up:
        raise _UnresolvedReferenceError("not looked up")
    if kind == "env":
        name, has_default, default = rest.partition(":-")
        if environ.get(name, "" if has_default else None) in ("", None) and has_default:
            return default
        if name not in environ:
            raise _UnresolvedReferenceError(
                f"the variable {name} is not set; set it, or give a default: ${{env:{name}:-…}}"
            )
        return environ[name]
    try:
        return Path(rest).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _UnresolvedReferenceError(f"cannot read {rest}: {reason}") from None
