"""The alert rules for streamd itself: valid, tested, and each with a way out."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import promql
import pytest
import yaml
from prometheus import program
from promql import ROOT, RULES

ALERTS = {
    "StreamdDown",
    "StreamdRestarting",
    "StreamdNoCommit",
    "StreamdStalled",
    "StreamdLagGrowing",
    "StreamdDeadLettersRising",
    "StreamdRestoreSlow",
}
UNIT_TESTS = RULES.with_name("rules_test.yml")


def test_all_that_can_go_wrong_has_its_rule() -> None:
    assert {rule["alert"] for rule in promql.rules()} == ALERTS


def test_promtool_finds_the_rules_valid() -> None:
    done = subprocess.run([program("promtool"), "check", "rules", RULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_each_rule_fires_when_it_should_and_is_silent_next_to_that() -> None:
    done = subprocess.run([program("promtool"), "test", "rules", UNIT_TESTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    tested = [each for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for each in test["alert_rule_test"]]
    assert {each["alertname"] for each in tested if each["exp_alerts"]} == ALERTS
    assert {each["alertname"] for each in tested if not each["exp_alerts"]} == ALERTS


@pytest.mark.parametrize("rule", promql.rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_how_grave_it_is_what_is_wrong_and_where_to_read_on(rule: Any) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    assert rule["annotations"]["runbook_url"].endswith(f"README.md#{rule['alert'].lower()}")


def test_the_readme_has_a_section_for_each_rule() -> None:
    text = (ROOT / "README.md").read_text()
    headings = set(re.findall(r"(?m)^#+ (Streamd\w+)$", text))
    assert headings == ALERTS
