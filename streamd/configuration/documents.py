"""What is written about the configuration, made from its model: the example file and the JSON Schema for editors."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streamd.config import DETECTOR_TYPES, Config
from streamd.configuration.problems import choices
from streamd.detectors.registry import DEFAULT_DETECTORS
from streamd.rules.registry import RULE_TYPES

HEADER = """\
# Every key of streamd with its default, and why. None of it is needed: write down what should be different.
#
# Each key is also an environment variable, which wins over the file: kafka.group_id is STREAMD_KAFKA__GROUP_ID.
# A text may hold ${env:NAME}, ${env:NAME:-default} and ${file:/run/secrets/name}; $${ stands for a plain ${.
# `streamd check --config FILE` checks a file; `streamd config show` prints what is in force and where it is from.
# yaml-language-server: $schema=streamd.schema.json
"""

STREAMS = """\
streams: []
#  - match: fraud/*
#    detectors: {ks: {window_rows: 500}, chi2: null}
#    reference: {first_rows: 10000}
#    policy: {mode: enforce}
"""

DETECTORS = """\
  # Those that are not in force by default, or that would be something else once they are named here, stand as
  # comments. Two of one type need two names: `ks-strict: {type: ks, effect_threshold: 0.1}`.
"""


def example() -> str:
    """The example file: loads to the default Config."""
    lines = [HEADER.rstrip()]
    for name, field in Config.model_fields.items():
        lines += ["", *_comment(field.description or "", "")]
        if name == "detectors":
            lines += ["detectors:", DETECTORS.rstrip(), *_detectors()]
        elif name == "streams":
            lines += STREAMS.splitlines()
        elif _is_section(field):
            lines += [f"{name}:", *_fields(field.annotation, "  ")]
        else:
            lines.append(f"{name}: {_default(field)}")
    return "\n".join(lines) + "\n"


def _detectors() -> Iterator[str]:
    for name, config in DETECTOR_TYPES.items():
        documentation = (sys.modules[config.__module__].__doc__ or "").strip().partition("\n")[0]
        block = [f"{name}:", *_fields(config, "  ")]
        # Naming a detector that trains itself means: train it for every stream, without engine.fits_max.
        active = name in DEFAULT_DETECTORS and not config.needs_fit
        yield ""
        yield from _comment(documentation, "  ")
        yield from (f"  {line}" if active else f"  # {line}".rstrip() for line in block)


def _fields(model: Any, indent: str) -> Iterator[str]:
    """Every key of the model with its comment."""
    for name, field in model.model_fields.items():
        if name == "type":
            continue  # is the detector's name
        yield from _comment(" ".join(filter(None, (field.description, _one_of(field)))), indent)
        if _is_section(field):
            yield f"{indent}{name}:"
            yield from _fields(field.annotation, indent + "  ")
        else:
            yield f"{indent}{name}: {_default(field)}"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _one_of(field: FieldInfo) -> str:
    """The words that a field takes, unless its description names them all."""
    words = [str(choice) for choice in choices(field.annotation)]
    known = field.description or ""
    return "" if all(word in known for word in words) else f"One of {', '.join(words)}."


def _comment(text: str, indent: str) -> list[str]:
    width = 110 - len(indent)
    return [f"{indent}# {line}" for line in textwrap.wrap(" ".join(text.split()), width, break_long_words=False)]


def _default(field: FieldInfo) -> str:
    return "# must be given" if field.is_required() else flow(field.get_default(call_default_factory=True))


def flow(value: Any) -> str:
    """A value as YAML in one line; secrets masked."""
    plain = _plain(value)
    if isinstance(plain, float):
        return repr(plain)
    return (
        yaml.safe_dump(plain, default_flow_style=True, width=10**9, allow_unicode=True).removesuffix("\n...\n").strip()
    )


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr | Path):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


# --- JSON Schema ----------------------------------------------------------------------------------

_LOOKED_UP = {"type": "string", "pattern": r"\$\{(env|file):", "description": "Looked up when the file is read."}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the configuration file, for editors and for checks in other languages."""
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    detectors = {
        name: {"anyOf": [{"$ref": f"#/$defs/{config.__name__}"}, {"type": "null"}]}
        for name, config in DETECTOR_TYPES.items()
    }
    for owner in (schema, definitions["StreamRule"]):
        field = owner["properties"]["detectors"]
        owner["properties"]["detectors"] = {
            "description": field["description"],
            "type": "object",
            "properties": detectors,
            "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$", "maxLength": 64},
            "additionalProperties": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/OtherDetector"}]},
        }
    definitions["OtherDetector"] = {
        "description": "A detector under a name that is not its type's.",
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(DETECTOR_TYPES)}},
        "allOf": [
            {"if": {"properties": {"type": {"const": name}}}, "then": {"$ref": f"#/$defs/{config.__name__}"}}
            for name, config in DETECTOR_TYPES.items()
        ],
    }
    changes = definitions["RulesSettings"]["properties"]["changes"]
    definitions["RulesSettings"]["properties"]["changes"] = {
        "description": changes["description"],
        "type": "object",
        "additionalProperties": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/RuleChange"}]},
    }
    definitions["RuleChange"] = {
        "description": "A rule. The name is its type where the preset has no rule of that name and none is given.",
        "type": "object",
        "properties": {"type": {"enum": list(RULE_TYPES)}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"$ref": f"#/$defs/{config.__name__}"},
            }
            for name, config in RULE_TYPES.items()
        ],
    }
    for definition in (schema, *definitions.values()):
        for key, field in definition.get("properties", {}).items():
            definition["properties"][key] = _or_looked_up(field)
    definitions["LookedUp"] = _LOOKED_UP
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "streamd configuration"}


def _or_looked_up(field: dict[str, Any]) -> dict[str, Any]:
    """Let a number, a switch or a word of a list also be `${env:X}`."""
    if field.get("type") not in ("integer", "number", "boolean") and "enum" not in field:
        return field
    outer: dict[str, Any] = {key: field[key] for key in ("description", "title", "default") if key in field}
    inner = {key: value for key, value in field.items() if key not in outer}
    return {**outer, "anyOf": [inner, {"$ref": "#/$defs/LookedUp"}]}
