"""Feature drift: which columns moved, by how much, and since when?"""

from __future__ import annotations

from boards.frame import dashboard, variable
from boards.panels import SEVERITY_COLOURS, Json, colours, lines, ranking
from boards.queries import STREAM, effect_ratio, smallest_p_values, window_ratio

CHOSEN = f'{STREAM}, detector=~"$detector"'
WORST = f"max by (stream, detector, feature) ({effect_ratio(CHOSEN)})"
LOUD = f"sum by (stream) (max by (stream, feature) ({effect_ratio(CHOSEN)}) > bool 1)"
WINDOW = f"max by (stream, detector, feature) ({window_ratio(CHOSEN)})"
COLUMN = "{{stream}} {{feature}} ({{detector}})"


def board() -> Json:
    return dashboard(
        "feature-drift",
        "Which columns moved, by how much, and since when? Choose a stream first.",
        {"": _now(), "Each detector": _detectors(), "Behind it": _evidence()},
        variable("detector", "Detector", f"label_values(streamd_verdict_effect{{{STREAM}}}, detector)"),
    )


def _now() -> list[Json]:
    return [
        ranking(
            "Worst columns",
            "The last judgement of each column: its effect divided by the threshold. Above 1 it matters. One column: "
            "suspect its source. Many at once: suspect a join, a filter, or another population.",
            COLUMN,
            f"topk(15, {WORST})",
            size=(12, 12),
        ),
        lines(
            "Columns over their threshold",
            "How broad the change is. A few that stay: something was deployed. All for a while: an event. In and out "
            "at the same hours: the reference lacks that time of day.",
            {"{{stream}}": LOUD},
            size=(12, 12),
            decimals=0,
            min=0,
        ),
    ]


def _detectors() -> list[Json]:
    return [
        lines(
            "Effect: $detector",
            "How large the difference was in each judgement, in the unit of its test; 20 columns at most. A level "
            "over the line that stays needs a new reference or a retrained model; a spike that ends was an event.",
            {
                "{{stream}} {{feature}} ({{test}})": "topk(20, max by (stream, feature, test) "
                f"(streamd_verdict_effect{{{CHOSEN}}}))",
                "threshold ({{test}})": f"min by (test) (streamd_verdict_effect_threshold{{{CHOSEN}}})",
            },
            repeat="detector",
            min=0,
        )
    ]


def _evidence() -> list[Json]:
    return [
        lines(
            "Sliding window",
            "The statistic at every batch, divided by its threshold: it moves before a judgement falls. For the eye "
            "only: alerts come from whole windows, so a short excursion over 1 is no alarm.",
            {COLUMN: f"topk(20, {WINDOW})"},
            steps=((0, "green"), (1, "orange")),
            min=0,
        ),
        lines(
            "p-values",
            "How sure it is that the difference is no chance, corrected for the number of columns; the 20 smallest. "
            "Small alone is no reason to act: with many rows everything is significant. Read it beside the effect.",
            {COLUMN: smallest_p_values(CHOSEN, "stream, detector, feature")},
            unit="sci",
            custom={"scaleDistribution": {"type": "log", "log": 10}},
            steps=((0, "red"), (0.001, "orange"), (0.05, "green")),
        ),
        lines(
            "Judgements by grade",
            "Judgements per second of the chosen detectors, over all streams. A detector that is never `none` has a "
            "reference that does not fit.",
            {
                "{{severity}}": "sum by (severity) "
                '(rate(streamd_verdicts_total{detector=~"$detector"}[$__rate_interval]))'
            },
            overrides=colours(SEVERITY_COLOURS),
            size=(24, 7),
        ),
    ]
