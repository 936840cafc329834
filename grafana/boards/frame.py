"""The frame that all dashboards share: variables, links to the others, annotations, places of panels.

A dashboard is Grafana's own JSON (schema 39, Grafana 11 and newer) as dicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from boards.panels import DATASOURCE, Json
from boards.queries import STREAM

TITLES = {
    "overview": "Overview",
    "feature-drift": "Feature drift",
    "predictions": "Predictions",
    "training": "Training",
    "alerts": "Alerts",
    "daemon": "Daemon",
}


class Annotation(NamedTuple):
    """What is drawn on all charts: a region for as long as there are samples above 0, which Grafana joins.

    Attributes:
        tags: labels, with commas.
        at_value: a mark at the time that a value says, in milliseconds, rather than a region.
    """

    name: str
    colour: str
    expr: str
    title: str
    text: str
    tags: str
    at_value: bool = False


def dashboard(
    name: str,
    description: str,
    rows: Mapping[str, Sequence[Json]],
    *variables: Json,
    stream: Json | None = None,
    firing: str = f"streamd_alerts_firing{{{STREAM}}}",
    annotations: Sequence[Annotation] = (),
) -> Json:
    """A dashboard with the uid `streamd-<name>`.

    Args:
        description: what it is for.
        rows: the panels of each row, by its title; the row with the title "" has none.
        variables: beside `datasource` and `stream`.
        stream: the variable `stream`, where it has other values than all streams.
        firing: the alerts that are drawn on the charts.
        annotations: beside the alerts.
    """
    alerts = Annotation(
        "Alerts",
        "orange",
        f"sum by (stream, detector, severity) ({firing}) > 0",
        "{{stream}}",
        "{{detector}}: {{severity}}",
        "detector,severity",
    )
    stream = stream or variable("stream", "Stream", "label_values(streamd_stream_severity, stream)")
    return {
        "uid": f"streamd-{name}",
        "title": f"streamd: {TITLES[name]}",
        "description": description,
        "tags": ["streamd"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one cross-hair for all panels: what else happened then?
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": [_annotation(each) for each in (alerts, _ITSELF, *annotations)]},
        "links": [_link(other, title) for other, title in TITLES.items() if other != name],
        "templating": {"list": [_datasource_variable(), stream, *variables]},
        "panels": _placed(rows),
    }


def variable(name: str, label: str, query: str) -> Json:
    """A variable of which some values or all can be chosen; `query` is Grafana's `label_values(…)`."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the time range changes: streams come and go
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _datasource_variable() -> Json:
    return {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1}


_ITSELF = Annotation(
    "streamd itself",
    "purple",
    'max by (alertname, severity) (ALERTS{alertname=~"Streamd.+", alertstate="firing"})',
    "{{alertname}}",
    "{{severity}}",
    "severity",
)


def _annotation(annotation: Annotation) -> Json:
    return {
        "name": annotation.name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": annotation.colour,
        "expr": annotation.expr,
        "step": "1m",
        "titleFormat": annotation.title,
        "textFormat": annotation.text,
        "tagKeys": annotation.tags,
        **({"useValueForTime": True} if annotation.at_value else {}),
    }


def _link(name: str, title: str) -> Json:
    return {
        "type": "link",
        "title": title,
        "url": f"/d/streamd-{name}",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
    }


def _placed(rows: Mapping[str, Sequence[Json]]) -> list[Json]:
    """Panels from left to right, in rows 24 wide."""
    panels: list[Json] = []
    y = 0
    for title, row in rows.items():
        if title:
            place = {"x": 0, "y": y, "w": 24, "h": 1}
            panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place})
            y += 1
        x = height = 0
        for panel in row:
            place = panel["gridPos"]
            if x + place["w"] > 24:
                x, y, height = 0, y + height, 0
            panels.append({**panel, "gridPos": {"x": x, "y": y, **place}})
            x, height = x + place["w"], max(height, place["h"])
        y += height
    return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]
