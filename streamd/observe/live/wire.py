"""What the live view sends of a stream, as JSON: a row of the list, and all of one that is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from streamd.codec.jsontext import json_number
from streamd.detectors.histogram import Histogram
from streamd.model import Alert, JsonValue, Severity
from streamd.observe.board import Judgement, Place, Standing, StreamView
from streamd.observe.live.looks import Question
from streamd.observe.trace import THRESHOLD

STATES = ("critical", "warning", "info", "stale", "quiet", "learning", "ended", "unknown")
"""Worst first. `info` to `critical`: an alert fires. `stale`: silent for much longer than usual. `learning`: not
judged yet. `ended`: a training run that is over. `unknown`: known by its state or reference, and no batch was heard
of it."""

STALE_SECONDS = 300.0  # at least; and four times as long as is usual between two of its batches
_STALE_GAPS = 4.0
_COLUMNS_MAX = 8  # asked for a histogram, the worst first
_LOUD_P = 0.05

_RANKS = {state: rank for rank, state in enumerate(STATES)}


def state_of(stream: Standing | StreamView, judged: bool, now: float) -> str:
    """One of STATES, at `now` in epoch seconds."""
    if stream.severity > Severity.NONE:
        return stream.severity.word
    if stream.ended:
        return "ended"
    if stream.heard_at is None:
        return "unknown"
    if now - stream.heard_at > max(STALE_SECONDS, _STALE_GAPS * stream.gap_seconds):
        return "stale"
    return "quiet" if judged else "learning"


def order_of(standing: Standing, state: str) -> tuple[int, int, str, Place]:
    """Sorts worst first. In eighths of the threshold: a list that trembles cannot be read."""
    return _RANKS[state], -(standing.nearness * 8 // THRESHOLD), standing.stream, standing.place


def key_of(place: Place, stream: str) -> str:
    """Names a stream in the page and in its address."""
    return f"{place[0]}/{place[1]}/{stream}"


def place_of(key: str) -> tuple[Place, str] | None:
    """The inverse of `key_of`; None: it is none. A topic has no slash in it, a stream may."""
    topic, _, rest = key.partition("/")
    number, _, stream = rest.partition("/")
    return ((topic, int(number)), stream) if number.isascii() and number.isdigit() and len(number) < 10 else None


def row(view: StreamView, state: str) -> dict[str, JsonValue]:
    """One line of the list. Times are epoch milliseconds."""
    worst = max(view.judgements, key=_loudness, default=None)
    gravest = max(view.firing, key=_gravity, default=None)
    line: dict[str, JsonValue] = {
        "key": key_of(view.place, view.stream),
        "stream": view.stream,
        "state": state,
        "sentence": _sentence(view, worst),
        "trace": list(view.trace),
        "rows": view.rows,
        "heard_ms": None if view.heard_at is None else int(view.heard_at * 1000),
        "firing": len(view.firing),
        "since_ms": None if gravest is None else gravest.started_at_ms,
    }
    if view.run is not None:
        loss = view.run.last_loss
        line |= {"step": view.run.step, "loss": None if loss is None else json_number(loss)}
        line |= {"loss_name": view.run.loss, "trace": list(_curve(view.run.losses))}
    elif gravest is not None:
        line |= {"detector": gravest.detector, "effect": _finite(gravest.effect), "effect_name": gravest.effect_name}
        line["threshold"] = _finite(gravest.threshold)
        line["column"] = gravest.features[0].name if gravest.features else None
    elif worst is not None:
        verdict = worst.verdict
        i = _worst_column(worst)
        line |= {"detector": verdict.detector, "effect_name": verdict.effect_name}
        line["effect"] = None if i is None else _finite(float(verdict.effects[i]))
        line["threshold"] = _finite(verdict.effect_threshold)
        line["column"] = None if i is None else verdict.columns[i]
    return line


def detail(view: StreamView, histogram: Histogram | None) -> dict[str, JsonValue]:
    """All that is known of one stream."""
    shown = replace(view, firing=tuple(sorted(view.firing, key=_gravity, reverse=True))).as_json()
    shown["key"] = key_of(view.place, view.stream)
    shown["histogram"] = None if histogram is None else _histogram_json(histogram)
    shown["losses"] = None if view.run is None else [json_number(loss) for loss in view.run.losses]
    return shown


def question(view: StreamView) -> Question:
    """Which histogram says most: of the gravest alert's worst column, else of what is nearest to an alarm."""
    columns = [
        feature.name for alert in sorted(view.firing, key=_gravity, reverse=True) for feature in alert.features[:2]
    ]
    for judgement in sorted(view.judgements, key=_loudness, reverse=True):
        i = _worst_column(judgement)
        columns += [judgement.verdict.columns[i]] if i is not None else []
    return Question(*view.place, view.stream, tuple(dict.fromkeys(columns))[:_COLUMNS_MAX])


def _sentence(view: StreamView, worst: Judgement | None) -> str:
    if view.firing:
        return max(view.firing, key=_gravity).summary.removeprefix(f"{view.stream}: ")
    if view.run is not None and view.run.ended is not None:
        return f"the run is over: {view.run.ended}"
    if worst is not None:
        return worst.verdict.finding
    if view.run is not None and view.run.step is not None:
        return f"nothing found up to step {view.run.step:,}"
    if view.heard_at is None:
        return "this process has heard no batch of it yet"
    return "its reference is there; the first window is filling" if view.reference else "learning what is normal"


def _curve(losses: tuple[float, ...]) -> Iterator[int | None]:
    """The losses as heights in a trace, from the least to twice the threshold; None: not a number, or infinite."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    least, most = min(finite, default=0.0), max(finite, default=0.0)
    for loss in losses:
        share = (loss - least) / (most - least) if most > least else 0.5
        yield round(2 * THRESHOLD * share) if math.isfinite(loss) else None


def _gravity(alert: Alert) -> tuple[int, float]:
    return alert.severity, alert.effect / max(alert.threshold, 1e-12)


def _nearness(judgement: Judgement) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(k,) how near each column is to being loud: 1 is loud, by effect and, where there is one, by p-value."""
    verdict = judgement.verdict
    with np.errstate(all="ignore"):
        near = verdict.effects / max(verdict.effect_threshold, 1e-12)
        if verdict.adjusted is not None:
            near = np.minimum(near, np.log(verdict.adjusted) / math.log(_LOUD_P))
    return np.nan_to_num(near, nan=-1.0)


def _loudness(judgement: Judgement) -> tuple[int, float]:
    near = _nearness(judgement)
    return judgement.severity, float(near.max()) if near.size else -1.0


def _worst_column(judgement: Judgement) -> int | None:
    near = _nearness(judgement)
    return int(near.argmax()) if near.size else None


def _histogram_json(histogram: Histogram) -> JsonValue:
    return {
        "column": histogram.column,
        "labels": list(histogram.labels),
        "edges": [_finite(edge) for edge in histogram.edges.tolist()],
        "reference": np.round(histogram.reference, 5).tolist(),
        "window": np.round(histogram.window, 5).tolist(),
        "reference_rows": histogram.reference_rows,
        "window_rows": histogram.window_rows,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
