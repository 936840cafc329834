"""Panels in few words. Each says in its description what to conclude from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]
Steps = Sequence[tuple[float, str]]
"""From this value on, this colour."""

DATASOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

CALM = ((0, "green"),)
ANY_IS_BAD = ((0, "green"), (1, "red"))
ANY_IS_NEWS = ((0, "green"), (1, "orange"))
MATTERS = ((0, "green"), (0.8, "yellow"), (1, "orange"), (2, "red"))

_SEVERITIES = (("calm", "green"), ("info", "blue"), ("warning", "orange"), ("critical", "red"))
SEVERITY_MAPPINGS = [
    {
        "type": "value",
        "options": {str(i): {"text": word, "color": color, "index": i} for i, (word, color) in enumerate(_SEVERITIES)},
    }
]
SEVERITY_COLOURS = {"none": "green", "info": "blue", "warning": "orange", "critical": "red"}


def stat(
    title: str, says: str, expr: str, unit: str = "short", steps: Steps = CALM, width: int = 3, **more: Any
) -> Json:
    """One number with its recent past."""
    options = {"colorMode": "value", "graphMode": "area", "textMode": "auto", "reduceOptions": _LAST}
    return _panel("stat", title, says, {"": expr}, unit, steps, size=(width, 4), options=options, **more)


def lines(title: str, says: str, queries: Mapping[str, str], unit: str = "short", **more: Any) -> Json:
    """Lines over time, by the format of their legends; one that begins with `threshold` is drawn as such."""
    limited = "steps" in more
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "never",
        "thresholdsStyle": {"mode": "dashed" if limited else "off"},
        **more.pop("custom", {}),
    }
    # Colours by series even where thresholds are drawn, or all lines would look the same.
    return _panel(
        "timeseries",
        title,
        says,
        queries,
        unit,
        more.pop("steps", CALM),
        size=more.pop("size", (12, 8)),
        options={"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
        custom=custom,
        color={"mode": "palette-classic"},
        overrides=[*_limits(queries), *more.pop("overrides", ())],
        **more,
    )


def bars(title: str, says: str, queries: Mapping[str, str], unit: str = "short", **more: Any) -> Json:
    """Stacked bars of what happened within each; expressions use `$__interval`, which is a minute or longer."""
    custom = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal"}}
    return lines(title, says, queries, unit, custom=custom, interval="1m", decimals=0, **more)


def ranking(title: str, says: str, legend: str, expr: str, **more: Any) -> Json:
    """The largest now, as horizontal bars."""
    options = {"displayMode": "basic", "orientation": "horizontal", "showUnfilled": True, "reduceOptions": _LAST}
    return _panel(
        "bargauge",
        title,
        says,
        {legend: expr},
        "short",
        MATTERS,
        size=more.pop("size", (12, 9)),
        options=options,
        instant=True,
        decimals=2,
        min=0,
        **more,
    )


def states(title: str, says: str, legend: str, expr: str, link: Json) -> Json:
    """The severity of each thing over time, with a way to more about it."""
    options = {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "legend": {"showLegend": True}}
    return _panel(
        "state-timeline",
        title,
        says,
        {legend: expr},
        "short",
        CALM,
        size=(24, 8),
        options=options,
        custom={"fillOpacity": 80, "lineWidth": 0},
        mappings=SEVERITY_MAPPINGS,
        links=[link],
    )


def table(title: str, says: str, expr: str, columns: Sequence[str], value: str, **more: Any) -> Json:
    """One line a series: its labels, in this order, and its value under that heading."""
    order = {name: place for place, name in enumerate([*columns, "Value"])}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {"Value": value}}
    panel = _panel("table", title, says, {"": expr}, "short", CALM, instant=True, **more)
    panel["targets"][0]["format"] = "table"
    return {**panel, "transformations": [{"id": "organize", "options": organize}]}


def drift_link(stream: str) -> Json:
    """From a stream to its features; `stream` is Grafana's own expression for its name."""
    return _stream_link("Its features", "feature-drift", stream)


def training_link(stream: str) -> Json:
    """From a run to its training."""
    return _stream_link("Its training", "training", stream)


def _stream_link(title: str, board: str, stream: str) -> Json:
    url = f"/d/streamd-{board}?var-stream={stream}&${{datasource:queryparam}}&${{__url_time_range}}"
    return {"title": title, "url": url}


def colours(by_name: Mapping[str, str]) -> list[Json]:
    """Overrides: the series with this name has this colour."""
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in by_name.items()
    ]


def _limits(legends: Mapping[str, str]) -> list[Json]:
    """Overrides: series whose names begin with `threshold` are drawn dashed and red."""
    if not any(legend.startswith("threshold") for legend in legends):
        return []
    properties = [
        {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
        {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
        {"id": "custom.fillOpacity", "value": 0},
    ]
    return [{"matcher": {"id": "byRegexp", "options": "/^threshold/"}, "properties": properties}]


_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_LEGEND = {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True}


def _panel(
    kind: str,
    title: str,
    says: str,
    queries: Mapping[str, str],
    unit: str,
    steps: Steps,
    *,
    size: tuple[int, int],
    options: Json | None = None,
    custom: Json | None = None,
    overrides: Sequence[Json] = (),
    instant: bool = False,
    interval: str | None = None,
    repeat: str | None = None,
    **defaults: Any,
) -> Json:
    """`size`: width and height. `defaults`: further ones of all fields: `decimals`, `min`, `mappings`, `noValue`, …"""
    first = {"color": steps[0][1], "value": None}
    thresholds = [first, *({"color": colour, "value": value} for value, colour in steps[1:])]
    panel: Json = {
        "type": kind,
        "title": title,
        "description": says,
        "datasource": DATASOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend or "__auto",
                "instant": instant,
                "range": not instant,
            }
            for number, (legend, expr) in enumerate(queries.items())
        ],
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "color": {"mode": "thresholds"},
                "thresholds": {"mode": "absolute", "steps": thresholds},
                **({"custom": custom} if custom else {}),
                **defaults,
            },
            "overrides": list(overrides),
        },
        "options": options or {},
    }
    if interval:
        panel["interval"] = interval
    if repeat:
        panel |= {"repeat": repeat, "repeatDirection": "h", "maxPerRow": 2}
    return panel
