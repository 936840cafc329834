"""The policy: what becomes an alert, when it grows, when it ends. Reads like the specification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from streamd.incidents import Occasion
from streamd.model import Alert, Command, Kind, Severity, Verdict, Window
from streamd.policy import Policy, PolicySettings
from streamd.state import pack, unpack

MINUTE = 60_000
CHANCE, MILD, SURE = 0.5, 0.01, 1e-9  # p-values


def verdict(
    p_values: Sequence[float] | None,
    effects: Sequence[float],
    *,
    kind: Kind = Kind.FEATURES,
    detector: str = "ks",
    test: str = "ks_2samp",
) -> Verdict:
    columns = tuple(f"c{i}" for i in range(len(effects)))
    adjusted = None if p_values is None else np.array(p_values)
    return Verdict(
        detector=detector,
        test=test,
        kind=kind,
        columns=columns,
        statistics=np.array(effects),
        p_values=adjusted,
        adjusted=adjusted,
        effects=np.array(effects),
        effect_name="ks_distance",
        effect_threshold=0.2,
        directions=("up",) * len(columns),
        window=Window(0, 3, 1000),
        finding="c0 drifted up",
    )


LOUD = verdict([SURE], [0.5])
QUIET = verdict([CHANCE], [0.05])


class Story:
    """Feeds verdicts to a policy, one a minute of event time, and keeps what it said."""

    def __init__(self, judges: int = 1, **settings: object) -> None:
        self.policy = Policy(PolicySettings.model_validate(settings), judges)
        self.minute = 0
        self.severities: list[Severity] = []
        self.told: list[Alert | Command] = []

    def then(self, *verdicts: Verdict, minutes: int = 1) -> Story:
        for each in verdicts:
            self.minute += minutes
            time_ms = self.minute * MINUTE
            self.policy.advance(time_ms)
            severity, told = self.policy.grade(each, Occasion("s", "t", 0, self.minute, time_ms, time_ms))
            self.severities.append(severity)
            self.told += told
        return self

    @property
    def alerts(self) -> list[tuple[str, str]]:
        return [(a.status, a.severity.word) for a in self.told if isinstance(a, Alert)]

    @property
    def commands(self) -> list[Command]:
        return [c for c in self.told if isinstance(c, Command)]


@pytest.mark.parametrize(
    ("p_value", "effect", "expected"),
    [
        (CHANCE, 0.05, Severity.NONE),
        (CHANCE, 0.90, Severity.NONE),  # a large effect of a few rows may be chance
        (MILD, 0.05, Severity.INFO),
        (MILD, 0.90, Severity.INFO),
        (SURE, 0.05, Severity.INFO),  # not chance, but it does not matter
        (SURE, 0.20, Severity.INFO),  # an effect matters when it is greater than the threshold
        (SURE, 0.21, Severity.WARNING),
        (0.001, 0.90, Severity.WARNING),
        (0.0010001, 0.90, Severity.INFO),
        (0.05, 0.90, Severity.NONE),
    ],
)
def test_a_warning_needs_a_small_p_value_and_an_effect(p_value: float, effect: float, expected: Severity) -> None:
    assert expected == Policy(PolicySettings()).severity(verdict([p_value], [effect]), 0.001)[0]


def test_the_p_value_and_the_effect_must_be_those_of_one_column() -> None:
    assert Policy(PolicySettings()).severity(verdict([SURE, CHANCE], [0.05, 0.9]), 0.001)[0] == Severity.INFO


def test_a_column_that_was_not_judged_is_no_finding() -> None:
    assert Policy(PolicySettings()).severity(verdict([np.nan], [np.nan]), 0.001)[0] == Severity.NONE


def test_a_rule_without_a_p_value_is_decided_by_its_effect() -> None:
    assert Policy(PolicySettings()).severity(verdict(None, [0.3]), 0.001)[0] == Severity.WARNING
    assert Policy(PolicySettings()).severity(verdict(None, [0.1]), 0.001)[0] == Severity.NONE


def test_the_budget_says_how_small_a_p_value_must_be_and_the_alert_says_so() -> None:
    level = MINUTE / (30 * 24 * 60 * MINUTE) / 4  # once an hour in the bank at the start is spent
    for p_value, expected in ((level * 1.01, []), (level * 0.99, [("firing", "warning")])):
        story = Story(judges=4).then(*[QUIET] * 60, verdict([p_value], [0.5]))
        assert story.alerts == expected
    (alert,) = story.told
    assert isinstance(alert, Alert)
    assert alert.level == pytest.approx(level)
    assert alert.summary == "s: c0 drifted up, alarm level 6e-6"


def test_without_a_budget_the_line_is_fixed_and_its_looks_are_paid_by_the_detector() -> None:
    story = Story(false_alarms=None).then(verdict([0.0009], [0.5]))
    (alert,) = story.told
    assert isinstance(alert, Alert)
    assert (alert.level, alert.summary) == (0.001, "s: c0 drifted up")
    often = replace(verdict([0.0009], [0.5]), looks=1000)
    assert Story(false_alarms=None).then(often).told == []
    assert Story(false_alarms=None).then(replace(often, adjusted=np.array([9e-7]))).alerts == [("firing", "warning")]


def test_an_open_incident_goes_on_by_the_wider_line_and_costs_nothing() -> None:
    bunch = [verdict([0.0009], [0.5])] * 5  # at one moment: far too much for the budget to open one
    story = Story().then(*bunch, minutes=0)
    assert story.alerts == []
    story = Story().then(LOUD).then(*bunch, minutes=0)
    assert story.alerts == [("firing", "warning"), ("firing", "critical")]
    spending = story.policy.spending
    assert spending is not None
    assert spending.judgements == 1


def test_what_has_no_p_value_is_outside_of_the_budget() -> None:
    certain = replace(verdict([0.0], [2.0], kind=Kind.QUALITY), p_values=np.array([np.nan]))
    story = Story().then(*[QUIET] * 500, minutes=0).then(verdict(None, [0.5], detector="river"), certain, minutes=0)
    assert [(a.severity, a.level) for a in story.told if isinstance(a, Alert)] == [(Severity.WARNING, None)] * 2


def test_a_stream_whose_clock_never_moves_still_hears_what_is_plain() -> None:
    story = Story().then(*[QUIET] * 1000, verdict([1e-12], [0.5]), minutes=0)
    assert story.alerts == [("firing", "warning")]


def test_mild_drift_is_graded_but_not_told() -> None:
    story = Story().then(verdict([MILD], [0.9]))
    assert story.severities == [Severity.INFO]
    assert story.told == []


def test_one_incident_gives_one_alert_not_one_per_batch() -> None:
    story = Story(critical_after=100).then(*[LOUD] * 20)
    assert story.alerts == [("firing", "warning")]


def test_three_in_a_row_are_critical_and_ask_for_a_rollback() -> None:
    story = Story().then(LOUD, LOUD, LOUD, LOUD)
    assert story.severities == [Severity.WARNING, Severity.WARNING, Severity.CRITICAL, Severity.CRITICAL]
    assert story.alerts == [("firing", "warning"), ("firing", "critical")]
    assert [a.action for a in story.told if isinstance(a, Alert)] == ["review", "rollback"]
    (command,) = story.commands
    assert (command.command, command.args, command.mode) == ("rollback", {"to": "previous"}, "shadow")
    assert command.expires_at_ms == command.issued_at_ms + 600_000


def test_a_calm_judgement_between_breaks_the_row() -> None:
    story = Story().then(LOUD, LOUD, QUIET, LOUD, LOUD)
    assert Severity.CRITICAL not in story.severities


def test_findings_about_quality_never_ask_for_a_rollback() -> None:
    story = Story().then(*[verdict(None, [1.0], kind=Kind.QUALITY)] * 3)
    assert story.alerts == [("firing", "warning"), ("firing", "critical")]
    assert story.commands == []


def test_one_calm_judgement_may_be_luck_and_two_end_the_incident() -> None:
    assert Story().then(LOUD, QUIET).alerts == [("firing", "warning")]
    story = Story().then(LOUD, QUIET, QUIET, QUIET)
    assert story.alerts == [("firing", "warning"), ("resolved", "warning")]
    assert story.told[-1].summary == "s: ks is back to normal after 2 min"  # type: ignore[union-attr]


def test_a_new_incident_within_the_cool_down_is_held_back() -> None:
    story = Story(cooldown_seconds=600).then(LOUD, QUIET, QUIET, LOUD)
    assert story.alerts == [("firing", "warning"), ("resolved", "warning")]


def test_an_incident_that_outlasts_the_cool_down_is_told() -> None:
    story = Story(cooldown_seconds=120, critical_after=100).then(LOUD, QUIET, QUIET, LOUD, LOUD, LOUD)
    assert story.alerts == [("firing", "warning"), ("resolved", "warning"), ("firing", "warning")]


def test_what_becomes_critical_does_not_wait_for_the_cool_down() -> None:
    story = Story(cooldown_seconds=1e6).then(LOUD, QUIET, QUIET, LOUD, LOUD, LOUD)
    assert story.alerts[-1] == ("firing", "critical")


def test_detectors_kinds_and_tests_have_incidents_of_their_own() -> None:
    story = Story().then(
        LOUD, verdict([SURE], [0.5], detector="chi2"), verdict([SURE], [0.5], kind=Kind.PREDICTIONS), QUIET, QUIET
    )
    assert story.alerts == [("firing", "warning")] * 3 + [("resolved", "warning")]


def test_however_many_detectors_agree_the_stream_is_rolled_back_once() -> None:
    other = verdict([SURE], [0.5], detector="chi2")
    story = Story().then(*[LOUD, other] * 5)
    assert story.alerts.count(("firing", "critical")) == 2
    assert [command.command for command in story.commands] == ["rollback"]


def test_a_critical_finding_about_quality_does_not_keep_another_from_asking() -> None:
    quality = verdict(None, [1.0], kind=Kind.QUALITY, detector="quality", test="rule")
    story = Story().then(*[quality] * 3, *[LOUD] * 3)
    assert [command.command for command in story.commands] == ["rollback"]


def test_after_all_is_calm_the_next_critical_incident_asks_again() -> None:
    story = Story(cooldown_seconds=0).then(*[LOUD] * 3, QUIET, QUIET, *[LOUD] * 3)
    assert [command.command for command in story.commands] == ["rollback", "rollback"]


def test_an_alert_names_the_loud_columns_worst_first_and_no_others() -> None:
    story = Story(features_max=2).then(verdict([SURE, CHANCE, SURE, SURE], [0.3, 0.9, 0.5, 0.4]))
    (alert,) = story.told
    assert isinstance(alert, Alert)
    assert [feature.name for feature in alert.features] == ["c2", "c3"]
    assert (alert.statistic, alert.effect, alert.p_value) == (0.5, 0.5, SURE)


def test_the_same_coordinates_give_the_same_ids_and_others_give_others() -> None:
    first, again, other = Story().then(*[LOUD] * 3), Story().then(*[LOUD] * 3), Story().then(QUIET, *[LOUD] * 3)
    ids = [told.id for told in first.told]
    assert ids == [told.id for told in again.told]
    assert len({*ids, *[told.id for told in other.told]}) == 6


def test_a_reset_ends_the_open_incidents_with_its_reason() -> None:
    story = Story().then(LOUD)
    (alert,) = story.policy.reset(Occasion("s", "t", 0, 9, 9 * MINUTE, 9 * MINUTE), "ended: reset by ada")
    assert isinstance(alert, Alert)
    assert (alert.status, alert.detector, alert.summary) == ("resolved", "ks", "s: ks ended: reset by ada")
    assert story.policy.firing is Severity.NONE


def test_an_enforced_command_without_an_acknowledgement_is_overdue_once() -> None:
    story = Story(mode="enforce", acknowledge_seconds=30).then(LOUD, LOUD, LOUD)
    deadline = 3 * MINUTE + 30_000
    assert story.policy.overdue(deadline - 1) == []
    assert [pending.command for pending in story.policy.overdue(deadline)] == ["rollback"]
    assert story.policy.overdue(deadline + 1) == []


def test_an_acknowledged_command_is_never_overdue() -> None:
    story = Story(mode="enforce").then(LOUD, LOUD, LOUD)
    assert story.policy.acknowledge(story.commands[0].id)
    assert not story.policy.acknowledge("unknown")
    assert story.policy.overdue(10**12) == []


def test_nobody_waits_for_the_acknowledgement_of_a_shadow_command() -> None:
    assert Story().then(LOUD, LOUD, LOUD).policy.overdue(10**12) == []


def test_what_is_open_can_be_shown_again_after_a_restart() -> None:
    story = Story().then(LOUD, verdict([SURE], [0.5], detector="chi2"), QUIET, QUIET)
    restored = Policy(PolicySettings())
    restored.restore(unpack(pack(story.policy.snapshot())))
    (alert,) = restored.open_alerts()
    assert alert == story.told[1]


def test_a_restored_policy_goes_on_as_if_nothing_had_happened() -> None:
    verdicts = [LOUD, LOUD, QUIET, LOUD, LOUD, LOUD, QUIET, QUIET, LOUD, QUIET]
    whole = Story(mode="enforce").then(*verdicts)
    for cut in range(len(verdicts)):
        story = Story(mode="enforce").then(*verdicts[:cut])
        state = story.policy.snapshot()
        story.policy = Policy(PolicySettings(mode="enforce"))
        story.policy.restore(state)
        assert story.then(*verdicts[cut:]).told == whole.told
        assert story.policy.spending == whole.policy.spending
