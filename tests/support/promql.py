"""What the dashboards and alert rules ask of Prometheus: every expression, and the names in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from streamd.observe.families import FAMILIES, FLEET_FAMILIES, Family

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "grafana"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"

_OF_PROMETHEUS = ("up", "ALERTS")  # what it says itself, of targets and of rules
_OF_TARGETS = {"job", "instance", "worker"}  # labels that come with the scrape, and with one endpoint of many workers
_WORDS = {
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "Inf",
}


@dataclass(frozen=True)
class Expression:
    """One expression, where it stands, and the format of its legend."""

    place: str
    text: str
    legend: str = ""

    def __str__(self) -> str:
        return self.place


def dashboards() -> dict[str, Any]:
    """The dashboards in the tree, by uid."""
    return {board["uid"]: board for board in map(_read, sorted(DASHBOARDS.glob("*.json")))}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels(board: Any) -> list[Any]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def of_panels(board: Any) -> Iterator[Expression]:
    for panel in panels(board):
        for target in panel["targets"]:
            yield Expression(
                f"{board['uid']}, {panel['title']}, {target['refId']}", target["expr"], target["legendFormat"]
            )


def of_annotations(board: Any) -> Iterator[Expression]:
    for annotation in board["annotations"]["list"]:
        legend = " ".join(annotation[key] for key in ("titleFormat", "textFormat"))
        yield Expression(f"{board['uid']}, annotation {annotation['name']}", annotation["expr"], legend)


def of_variables(board: Any) -> Iterator[tuple[Expression, str]]:
    """What each variable's values are chosen from, and the label whose values they are."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert found is not None, variable
            yield Expression(f"{board['uid']}, variable {variable['name']}", found[1]), found[2]


def of_rules() -> Iterator[Expression]:
    for rule in rules():
        yield Expression(f"rule {rule['alert']}", rule["expr"])


def everything() -> list[Expression]:
    """Every expression of every panel, annotation, variable and rule."""
    found = list(of_rules())
    for board in dashboards().values():
        found += [*of_panels(board), *of_annotations(board), *(each for each, _ in of_variables(board))]
    return found


def undeclared(expr: str) -> set[str]:
    """Metrics in the expression that observe/ does not declare, and labels `metric{label}` that it does not have."""
    declared = _declared()
    names = _metrics(expr)
    wrong = names - declared.keys()
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expr):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', "", matchers)):
            if name in declared and label not in declared[name]:
                wrong.add(f"{name}{{{label}}}")
    return wrong


def always(expr: str) -> str:
    """The expression of a rule with comparisons that say 0 or 1, where they would give nothing while all is well."""
    parts = re.split(r"(\{[^}]*\})", expr)
    parts[::2] = [re.sub(r"(==|!=|>=|<=|>|<)", r"\1 bool", part) for part in parts[::2]]
    return "".join(parts)


def filled(expr: str, window: str, **variables: str) -> str:
    """Grafana's own variables and ours replaced, as Grafana does before it asks."""
    values = {"__rate_interval": window, "__interval": window, **variables}
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], expr)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _metrics(expr: str) -> set[str]:
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]', "", expr)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return {name for name in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare) if name not in _WORDS}


def _declared() -> dict[str, set[str]]:
    """Sample names and their labels."""
    declared = {name: _OF_TARGETS | {"alertname", "alertstate", "severity"} for name in _OF_PROMETHEUS}
    for family in (*FAMILIES, *FLEET_FAMILIES):
        for name, more in _samples(family):
            declared[name] = {*family.labels, *more} | _OF_TARGETS
    for family in ProcessCollector(registry=CollectorRegistry()).collect():
        declared |= {sample.name: set(_OF_TARGETS) for sample in family.samples}
    return declared


def _samples(family: Family) -> list[tuple[str, set[str]]]:
    if family.kind != "histogram":
        return [(family.name, set())]
    return [(f"{family.name}_bucket", {"le"}), (f"{family.name}_sum", set()), (f"{family.name}_count", set())]
