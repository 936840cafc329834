"""The presets of rules, what a configuration changes of them, and what they find on real runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from streamd.config import Config
from streamd.configuration.presets import preset_file
from streamd.rules.presets import ABOUT, PRESETS
from streamd.rules.registry import RULE_TYPES
from streamd.rules.river import RiverRuleConfig
from streamd.rules.rolling import RollingConfig
from streamd.rules.settings import RulesSettings

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("STREAMD_TEST_DATA", ROOT.parent / "shared/data")) / "train_telemetry"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no training telemetry at {DATA}")


def rules(**settings: Any) -> RulesSettings:
    return Config.model_validate({"rules": settings}).rules


def test_without_any_configuration_a_run_is_judged_by_the_preset_of_streamd() -> None:
    assert Config().for_stream("any run").rules.running() == dict(PRESETS["streamd"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_says_where_it_is_from(name: str) -> None:
    assert all(config.build().nbytes >= 0 for config in rules(preset=name).running().values())
    assert ABOUT[name]


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "none"])
def test_the_file_of_a_preset_says_what_is_in_force(name: str) -> None:
    text = (ROOT / "config/presets" / f"{name}.yaml").read_text()
    assert text == preset_file(name), "python -m streamd.configuration.presets"
    assert Config.model_validate(yaml.safe_load(text)).rules.running() == dict(PRESETS[name])


# The tables of "List of Debugger Built-in Rules" and "… Profiler Rules" in its developer guide; StepOutlier's 3 is the
# rule's own, for which the guide says 5.
DEBUGGER: dict[str, dict[str, Any]] = {
    "vanishing_gradient": {"threshold": 1e-7},
    "exploding_tensor": {"only_nan": False},
    "weight_update_ratio": {"large_threshold": 10.0, "small_threshold": 1e-8},
    "all_zero": {"threshold": 100},
    "dead_relu": {"threshold_layer": 50.0},
    "saturated_activation": {"threshold_layer": 50.0},
    "tensor_variance": {"max_threshold": None, "min_threshold": None},
    "unchanged_tensor": {"num_steps": 3, "rtol": 1e-5, "atol": 1e-8},
    "poor_weight_initialization": {"threshold": 10.0, "distribution_range": 0.001, "patience": 5, "steps": 10},
    "loss_not_decreasing": {"num_steps": 10, "diff_percent": 0.0},
    "overfit": {"start_step": 0, "patience": 1, "ratio_threshold": 0.1},
    "overtraining": {"patience_train": 5, "patience_validation": 10, "delta": 0.1},
    "class_imbalance": {"threshold_imbalance": 10, "threshold_misprediction": 0.7, "samples": 500},
    "confusion": {"min_diag": 0.9, "max_off_diag": 0.1},
    "similar_across_runs": {},
    "step_outlier": {"stddev": 3, "n_outliers": 10},
    "low_gpu_utilization": {"threshold_p95": 70, "threshold_p5": 10, "patience": 1000, "window": 500},
    "cpu_bottleneck": {"threshold": 50, "gpu_threshold": 10, "cpu_threshold": 90, "patience": 100},
    "io_bottleneck": {"threshold": 50, "gpu_threshold": 70, "io_threshold": 50, "patience": 1000},
    "gpu_memory_increase": {"increase": 10, "patience": 100, "window": 500},
    "load_balancing": {"threshold": 0.5, "patience": 10},
    "max_initialization_time": {"threshold": 20},
}


def test_the_rules_of_debugger_have_its_names_and_its_default_values() -> None:
    preset = {name: config.model_dump() for name, config in rules(preset="sagemaker-debugger").running().items()}
    assert {name: {key: preset[name][key] for key in values} for name, values in DEBUGGER.items()} == DEBUGGER
    assert preset.keys() == DEBUGGER.keys()
    assert rules().silence_seconds == 1800  # StalledTraining


def test_a_change_is_laid_over_the_rule_of_the_preset_key_by_key() -> None:
    changed = rules(changes={"grad_norm_spike": {"rise": 4.0}}).running()["grad_norm_spike"]
    assert changed == PRESETS["streamd"]["grad_norm_spike"].model_copy(update={"rise": 4.0})


def test_null_switches_a_rule_off() -> None:
    assert set(PRESETS["streamd"]) - set(rules(changes={"memory": None}).running()) == {"memory"}


def test_a_name_that_the_preset_does_not_have_is_its_type() -> None:
    assert rules(changes={"overfit": {}}).running()["overfit"] == RULE_TYPES["overfit"]()
    mine = rules(changes={"reward-drift": {"type": "river", "metrics": ["reward"]}}).running()["reward-drift"]
    assert mine == RiverRuleConfig(metrics=("reward",))


def test_another_type_under_a_name_of_the_preset_inherits_nothing() -> None:
    mine = rules(changes={"loss_spike": {"type": "rolling", "deviations": 4.0}}).running()["loss_spike"]
    assert mine == RollingConfig(deviations=4.0)


def test_a_word_that_no_rule_knows_is_refused() -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        rules(changes={"memory": {"no_such_key": 1}})
    with pytest.raises(ValidationError, match="preset"):
        rules(preset="no-such-preset")


def test_some_runs_may_have_other_rules() -> None:
    config = Config.model_validate(
        {
            "rules": {"rollbacks_max": 1, "changes": {"memory": None}},
            "streams": [
                {"match": "palm-*", "rules": {"preset": "palm", "changes": {"loss_spike": {"back_steps": 50}}}}
            ],
        }
    )
    palm = config.for_stream("palm-540b").rules
    assert (palm.preset, palm.rollbacks_max, palm.running()["loss_spike"].back_steps) == ("palm", 1, 50)
    assert config.for_stream("bert").rules == config.rules


@pytest.fixture
def quality(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    import quality_training

    sys.modules.pop("quality_training", None)
    return quality_training


@needs_data
@pytest.mark.slow
def test_every_event_of_the_chronicles_is_found_and_nothing_else(quality: ModuleType) -> None:
    alerts = quality.judged({"preset": "streamd"}, quality.chronicles(DATA)).alerts
    for event, span in quality.EVENTS.items():
        assert any(quality._is_of(alert, span) for alert in alerts), event
    assert all(any(quality._is_of(alert, span) for span in quality.EVENTS.values()) for alert in alerts)


@needs_data
@pytest.mark.slow
def test_the_gradient_norm_is_told_two_steps_before_the_loss_of_bloom_jumps(quality: ModuleType) -> None:
    alerts = quality.judged({"preset": "streamd"}, quality.chronicles(DATA)).alerts
    bloom = [(a.detector, a.step) for a in alerts if a.stream.startswith("train/tr11")]
    assert bloom == [("grad_norm_spike", 31217), ("loss_spike", 31221)]


@needs_data
@pytest.mark.slow
def test_healthy_runs_raise_nothing(quality: ModuleType) -> None:
    """Four of the 37, among them the two whose batches are hardest, and the one with gradient norms."""
    runs = dict(quality.healthy_runs(DATA))
    some = [(name, runs[name]) for name in ("mng007", "mng009", "mng027", "mng072")]
    assert quality.judged({"preset": "streamd"}, [*some, ("llm.c", quality.llmc_run(DATA))]).alerts == []
