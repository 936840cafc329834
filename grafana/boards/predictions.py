"""Predictions: does the model still answer as it did, and as surely?"""

from __future__ import annotations

from boards.frame import dashboard
from boards.panels import ANY_IS_BAD, ANY_IS_NEWS, Json, drift_link, lines, ranking, stat
from boards.queries import STREAM, effect_ratio, smallest_p_values

# Columns of a prediction are called so by the decoder, whatever a detector judges of them.
OUTPUTS = f'{STREAM}, feature=~"(logits|probabilities)\\\\[.+"'
ENTROPY = f'{STREAM}, detector="entropy"'
MEAN = f'{ENTROPY}, feature="entropy_mean"'
COLLAPSE = f'{ENTROPY}, feature="class_share"'

_RATIOS = " or ".join(effect_ratio(chosen) for chosen in (OUTPUTS, ENTROPY))


def board() -> Json:
    return dashboard(
        "predictions",
        "Does the model still answer as it did, and as surely? For streams that send logits or probabilities.",
        {"": _numbers(), "How sure": _entropy(), "What it answers": _outputs()},
    )


def _numbers() -> list[Json]:
    return [
        stat(
            "Entropy alerts",
            "Streams' open alerts about how sure the model is. Above 0: unfamiliar input, or a model that collapsed.",
            f"sum(streamd_alerts_firing{{{ENTROPY}}}) or vector(0)",
            steps=ANY_IS_BAD,
            width=4,
        ),
        stat(
            "Outputs over the threshold",
            "Logit or probability columns whose distribution moved by more than matters. With calm features it is "
            "the model that changed: was another version deployed?",
            f"sum(max by (stream, feature) ({effect_ratio(OUTPUTS)}) > bool 1)",
            steps=ANY_IS_NEWS,
            width=4,
        ),
        ranking(
            "Worst predictions",
            "The largest effect in what each stream's model answers, divided by its threshold. Above 1 it matters. "
            "Compare the same stream's features: if they are calm, the model is what changed.",
            "{{stream}} {{feature}}",
            f"topk(8, max by (stream, feature) ({_RATIOS}))",
            links=[drift_link("${__field.labels.stream:percentencode}")],
            size=(16, 5),
        ),
    ]


def _entropy() -> list[Json]:
    return [
        lines(
            "Entropy against the reference",
            "KS distance of the rows' entropy, at every batch. Over the line: the model is surer or less sure than "
            "on the reference; the alert says which way.",
            {
                "{{stream}}": f"max by (stream) (streamd_window_statistic{{{ENTROPY}}})",
                "threshold": f"min(streamd_window_statistic_threshold{{{ENTROPY}}})",
            },
            min=0,
            max=1,
        ),
        lines(
            "Mean entropy against its past",
            "How far the mean entropy of each batch is from that of the batches before, in deviations. A jump: "
            "something was deployed, or other input arrives. It stays until the old level is back, or a new reference.",
            {
                "{{stream}}": f"max by (stream) (streamd_verdict_effect{{{MEAN}}})",
                "threshold": f'min(streamd_verdict_effect_threshold{{{ENTROPY}, test="t"}})',
            },
            min=0,
        ),
        lines(
            "Collapse to one class",
            "By how much the most frequent class has a larger share than in the reference. Over the line the model "
            "says nearly always the same: check it for constant or missing inputs first.",
            {
                "{{stream}}": f"max by (stream) (streamd_verdict_effect{{{COLLAPSE}}})",
                "threshold": f'min(streamd_verdict_effect_threshold{{{ENTROPY}, test="binomial"}})',
            },
            unit="percentunit",
            size=(24, 7),
            min=0,
        ),
    ]


def _outputs() -> list[Json]:
    return [
        lines(
            "Outputs against the reference",
            "KS distance of each logit or probability column in its last judgements; 20 columns at most. All classes "
            "at once: another population or another model. One class: its label or its features.",
            {
                "{{stream}} {{feature}}": f"topk(20, max by (stream, feature) (streamd_verdict_effect{{{OUTPUTS}}}))",
                "threshold": f'min(streamd_verdict_effect_threshold{{{STREAM}, test="ks_2samp"}})',
            },
            min=0,
            max=1,
        ),
        lines(
            "p-values of outputs",
            "How sure it is that the difference is no chance, corrected. Act where the effect is over its line too.",
            {"{{stream}} {{feature}}": smallest_p_values(OUTPUTS, "stream, feature")},
            unit="sci",
            custom={"scaleDistribution": {"type": "log", "log": 10}},
            steps=((0, "red"), (0.001, "orange"), (0.05, "green")),
        ),
    ]
