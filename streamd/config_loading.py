"""From a YAML file and the environment to a Config, with the origin of each value; every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streamd.config import Config
from streamd.configuration.environment import interpolate, read_environment
from streamd.configuration.problems import describe, inherited_key, key_of
from streamd.configuration.source import Key, Raw, dotted, read_file
from streamd.errors import ConfigError


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, and for each of its keys (`kafka.group_id`) `file:line`, `env NAME` or `default`."""

    config: Config
    origins: Mapping[str, str]


def load(path: Path | None, environ: Mapping[str, str]) -> LoadedConfig:
    """Read the file, lay the environment's STREAMD_ variables over it, look up `${…}`, validate all of it.

    Args:
        path: a YAML file; None: defaults and environment alone.
        environ: the environment's variables.

    Raises:
        ConfigError: with every problem that was found.
    """
    raw = _read(path)
    read_environment(raw, environ)
    interpolate(raw, environ, look_up=True)
    config = _validate(raw)
    if config is None or raw.problems:
        raise ConfigError(*raw.problems)
    return LoadedConfig(config, {dotted(key): _origin(key, raw) for key in leaves(config)})


def problems_of_file(path: Path) -> list[str]:
    """What is wrong with the file by itself: without variables, and without looking up any `${…}`."""
    try:
        raw = _read(path)
    except ConfigError as error:
        return list(error.problems)
    interpolate(raw, {}, look_up=False)
    _validate(raw)
    return raw.problems


def _read(path: Path | None) -> Raw:
    raw = Raw()
    if path is None:
        return raw
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None
    read_file(raw, path, text)
    if raw.problems and not raw.data:  # no YAML at all: nothing more can be said about it
        raise ConfigError(*raw.problems)
    return raw


def _validate(raw: Raw) -> Config | None:
    """The Config, or None and its problems in `raw`."""
    try:
        return Config.model_validate(raw.data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    if _take_as_text(raw, errors):
        return _validate(raw)
    raw.problems.extend(describe(errors, raw))
    return None


def _take_as_text(raw: Raw, errors: list[ErrorDetails]) -> bool:
    """Put back the text of scalars that look like numbers where text is wanted: `sasl_password: 0123`."""
    changed = False
    for error in errors:
        key = inherited_key(key_of(error["loc"]), raw)
        if error["type"] != "string_type" or key not in raw.texts:
            continue
        target: Any = raw.data
        for part in key[:-1]:
            target = target[part]
        if target[key[-1]] is not None and target[key[-1]] != raw.texts[key]:
            target[key[-1]] = raw.texts[key]
            changed = True
    return changed


def leaves(value: Any, key: Key = ()) -> Iterator[Key]:
    """The key of everything in `value` that holds no keys of its own."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, BaseModel):
        children = list(value)
    elif isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        children = list(enumerate(value))
    for name, child in children:
        yield from leaves(child, (*key, name))
    if not children:
        yield key


def _origin(key: Key, raw: Raw) -> str:
    place = raw.values.get(inherited_key(key, raw))
    return place.short if place else "default"
