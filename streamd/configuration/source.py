"""A YAML file as plain data, with the place of each key and value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Key = tuple[str | int, ...]
"""The way to a value: ("kafka", "group_id"), ("streams", 0, "match")."""


class Place(NamedTuple):
    """Where something is written: `streamd.yaml`, line 3, column 5, or the variable `STREAMD_LOG__LEVEL`."""

    source: str
    line: int = 0  # from 1; 0: a variable has no lines
    column: int = 0

    @property
    def exact(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source

    @property
    def short(self) -> str:
        return f"{self.source}:{self.line}" if self.line else f"env {self.source}"


@dataclass
class Raw:
    """What was read, before anything is known of its meaning.

    Attributes:
        data: mappings, lists and scalars.
        keys: where each key (or list item) is written.
        values: where its value is written.
        texts: the text of each scalar, for those that turn out to be text: a password `0123`.
        hidden: keys whose value came through `${…}` and must never be printed.
        unresolved: keys that hold a stand-in, since their value could not be had: nothing more is said about them.
        problems: what was wrong, one line each.
    """

    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[Key, Place] = field(default_factory=dict)
    values: dict[Key, Place] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    hidden: set[Key] = field(default_factory=set)
    unresolved: set[Key] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def complain(self, place: Place, key: Key, problem: str) -> None:
        self.problems.append(": ".join(part for part in (f"{place.exact} {dotted(key)}".rstrip(), problem) if part))


def dotted(key: Key) -> str:
    return ".".join(map(str, key))


class Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: `no` is text, not false; `1e-3` is a number, not text; `1:30` is not 90."""


Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def read_file(raw: Raw, path: Path, text: str) -> None:
    """Add a YAML file's content to `raw`."""
    try:
        node = yaml.compose(text, Loader)
        if node is not None:
            value = Reader(raw, str(path)).value(node, ())
            if isinstance(value, dict):
                raw.data = value
            elif value is not None:
                raw.complain(Place(str(path), 1, 1), (), "the file must hold `key: value` lines")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(str(path), mark.line + 1, mark.column + 1) if mark else Place(str(path), 1, 1)
        raw.complain(place, (), _syntax_problem(error))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(str(path), before.count("\n") + 1, error.position - before.rfind("\n"))
        raw.complain(place, (), f"the character U+{ord(text[error.position]):04X} is not allowed in YAML")
    except RecursionError:
        raw.complain(Place(str(path), 1, 1), (), "is nested too deeply")


def _syntax_problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "is not YAML"
    if r"'\t'" in problem:
        return "a tab cannot indent in YAML; use spaces"
    if "expected a single document" in f"{error.context} {problem}":
        return "one document is expected; `---` starts another"
    return f"{problem} ({error.context})" if error.context and error.problem else problem


class Reader:
    """Turns YAML nodes into data and notes where each of them stands."""

    def __init__(self, raw: Raw, source: str, variable: bool = False) -> None:
        self._raw = raw
        self._source = source
        self._variable = variable
        self._open: set[int] = set()  # ids of the nodes that are being read: an alias may point at its own parent

    def place(self, node: yaml.Node) -> Place:
        if self._variable:
            return Place(self._source)
        return Place(self._source, node.start_mark.line + 1, node.start_mark.column + 1)

    def value(self, node: yaml.Node, key: Key) -> Any:
        place = self.place(node)
        self._raw.values[key] = place
        self._raw.keys.setdefault(key, place)
        if id(node) in self._open:
            self._raw.complain(place, key, "an alias may not contain itself")
            self._raw.unresolved.add(key)
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*key, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, key)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        """A mapping's own keys win over those that `<<: *anchor` brings."""
        own: dict[str, yaml.Node] = {}
        merged: dict[str, Any] = {}
        for name_node, item in node.value:
            name = name_node.value
            child = (*key, str(name))
            if name_node.tag == "tag:yaml.org,2002:merge":
                merged = {**self._inherited(item, key), **merged}
                continue
            if not isinstance(name_node, yaml.ScalarNode):
                self._raw.complain(self.place(name_node), key, "a key must be a single word")
            elif name in own:
                line = self._raw.keys[child].line
                self._raw.complain(self.place(name_node), child, f"is given twice; first in line {line}")
            else:
                own[name] = item
                self._raw.keys[child] = self.place(name_node)
        return {**merged, **{name: self.value(item, (*key, name)) for name, item in own.items()}}

    def _inherited(self, node: yaml.Node, key: Key) -> dict[str, Any]:
        """What `<<` brings: of one mapping, or of a list of them, where the first wins."""
        place = self._raw.values[key]
        merged: dict[str, Any] = {}
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            value = self.value(part, key)
            if isinstance(value, dict):
                merged = {**value, **merged}
            else:
                self._raw.complain(self.place(node), key, "`<<` takes an alias of a mapping")
        self._raw.values[key] = place
        return merged

    def _scalar(self, node: yaml.Node, key: Key) -> Any:
        self._raw.texts[key] = node.value
        try:
            return scalar(node.tag, node.value)
        except KeyError:
            self._raw.complain(self.place(node), key, f"the tag {node.tag} means nothing here")
            self._raw.unresolved.add(key)
            return None


def scalar(tag: str, text: str) -> Any:
    """The value of a scalar. Raises KeyError where `tag` is none of YAML's core schema."""
    match tag.removeprefix("tag:yaml.org,2002:"):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) < 100:  # longer is no number that anything here could mean
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "str" | "int":
            return text
        case _:
            raise KeyError(tag)
