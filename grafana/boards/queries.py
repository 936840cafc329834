"""Expressions that several dashboards ask for."""

from __future__ import annotations

STREAM = 'stream=~"$stream"'

SEVERITY = f"max by (stream) (streamd_stream_severity{{{STREAM}}})"
FIRING = f"sum(streamd_alerts_firing{{{STREAM}}}) or vector(0)"
CRITICAL = f'sum(streamd_alerts_firing{{{STREAM}, severity="critical"}}) or vector(0)'
FIRED = 'sum by (severity) (increase(streamd_alerts_total{status="firing"}[$__interval]))'

OF_RUNS = "and on (stream) streamd_run_step"
"""After a vector of streams: only those that are training runs."""

NOT_A_NUMBER = "max by (stream, metric) ({})".format(
    " or ".join(
        # x - x is 0, and NaN where x is NaN or infinite; NaN differs from everything.
        f"streamd_run_{name}{{{STREAM}}} - streamd_run_{name}{{{STREAM}}} != bool 0"
        for name in ("loss", "gradient_norm")
    )
)


def latest(name: str, chosen: str = "") -> str:
    """The last values of a run's metrics in the family `streamd_run_<name>`: what is no number leaves a gap.

    Args:
        chosen: further matchers, with a comma before them.
    """
    return f"max by (stream, metric) (streamd_run_{name}{{{STREAM}{chosen}}}) > -Inf < Inf"


def effect_ratio(chosen: str) -> str:
    """Effects over their thresholds: all detectors on one scale, on which above 1 matters.

    Args:
        chosen: matchers of the effects, by stream, detector, test and feature.
    """
    return _ratio("streamd_verdict_effect", chosen)


def window_ratio(chosen: str) -> str:
    """Statistics of sliding windows over their thresholds."""
    return _ratio("streamd_window_statistic", chosen)


def smallest_p_values(chosen: str, by: str) -> str:
    """The 20 smallest p-values. One may be 0, which a logarithmic scale cannot show."""
    return f"clamp_min(bottomk(20, min by ({by}) (streamd_verdict_p_value{{{chosen}}})), 1e-12)"


def _ratio(name: str, chosen: str) -> str:
    # A threshold of 0 says nothing, and would make the ratio infinite.
    return f"{name}{{{chosen}}} / ignoring (feature) group_left () ({name}_threshold{{{STREAM}}} > 0)"
