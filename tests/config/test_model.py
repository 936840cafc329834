"""The configuration as a value: defaults, inheritance, what applies to which stream."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streamd.config import DETECTOR_TYPES, Config
from streamd.detectors.ks import KsConfig
from streamd.detectors.registry import DEFAULT_DETECTORS
from streamd.engine_settings import ReferenceSettings


def test_without_any_configuration_the_default_detectors_run_and_nobody_asked_for_them():
    settings = Config().for_stream("fraud/7")
    assert tuple(settings.detectors) == DEFAULT_DETECTORS
    assert settings.unasked == set(DEFAULT_DETECTORS)
    assert settings.detectors["ks"] == KsConfig()


def test_a_detector_that_is_named_is_asked_for_and_the_other_defaults_stay():
    settings = Config.model_validate({"detectors": {"ks": {"window_rows": 500}}}).for_stream("a")
    assert set(settings.detectors) == set(DEFAULT_DETECTORS)
    assert settings.detectors["ks"] == KsConfig(window_rows=500)
    assert "ks" not in settings.unasked
    assert "chi2" in settings.unasked


def test_a_detector_named_with_nothing_changed_is_asked_for():
    settings = Config.model_validate({"detectors": {"autoencoder": {}}}).for_stream("a")
    assert "autoencoder" in settings.detectors
    assert "autoencoder" not in settings.unasked


def test_null_switches_a_default_detector_off():
    assert "chi2" not in Config.model_validate({"detectors": {"chi2": None}}).for_stream("a").detectors


def test_two_detectors_of_one_type_need_only_two_names():
    detectors = {"ks-strict": {"type": "ks", "effect_threshold": 0.1}}
    running = Config.model_validate({"detectors": detectors}).for_stream("a").detectors
    assert running["ks-strict"] == KsConfig(effect_threshold=0.1)
    assert running["ks"] == KsConfig()


def test_detectors_may_be_given_as_configs_too():
    config = Config(detectors={"ks": KsConfig(window_rows=500)})
    assert config.for_stream("a").detectors["ks"] == KsConfig(window_rows=500)
    assert "ks" not in config.for_stream("a").unasked


def test_a_stream_rule_inherits_key_by_key_what_it_does_not_name():
    config = Config.model_validate(
        {
            "detectors": {"ks": {"window_rows": 500}, "iqr": {}},
            "reference": {"rows_max": 1000},
            "policy": {"mode": "enforce"},
            "streams": [
                {
                    "match": "fraud/*",
                    "detectors": {"ks": {"effect_threshold": 0.1}, "iqr": None},
                    "reference": {"first_rows": 300},
                    "policy": {"critical_after": 5},
                }
            ],
        }
    )
    fraud, other = config.for_stream("fraud/7"), config.for_stream("spam/1")
    assert fraud.detectors["ks"] == KsConfig(window_rows=500, effect_threshold=0.1)
    assert "iqr" not in fraud.detectors
    assert "iqr" in other.detectors
    assert fraud.reference == ReferenceSettings(rows_max=1000, first_rows=300)
    assert (fraud.policy.mode, fraud.policy.critical_after) == ("enforce", 5)
    assert (other.policy.mode, other.policy.critical_after) == ("enforce", 3)
    assert "chi2" in fraud.unasked


def test_a_stream_rule_can_switch_on_what_the_top_level_switched_off():
    config = Config.model_validate(
        {"detectors": {"ks": None}, "streams": [{"match": "a", "detectors": {"ks": {"window_rows": 300}}}]}
    )
    assert config.for_stream("a").detectors["ks"] == KsConfig(window_rows=300)
    assert "ks" not in config.for_stream("b").detectors


def test_another_type_under_the_same_name_inherits_nothing():
    config = Config.model_validate(
        {
            "detectors": {"main": {"type": "ks", "window_rows": 77}},
            "streams": [{"match": "a", "detectors": {"main": {"type": "iqr"}}}],
        }
    )
    assert config.for_stream("a").detectors["main"] == DETECTOR_TYPES["iqr"]()


@pytest.mark.parametrize(
    ("match", "name", "applies"),
    [
        ("fraud/7", "fraud/7", True),
        ("fraud/*", "fraud/7", True),
        ("fraud/*", "fraud/7/eu", True),
        ("fraud/?", "fraud/77", False),
        ("*", "anything", True),
        ("[a]", "a", True),
        ("[a]", "[a]", True),  # a name with brackets in it is matched by itself
        ("Fraud/*", "fraud/7", False),
        ("fraud", "fraud/7", False),
    ],
)
def test_a_rule_matches_exact_names_and_patterns(match, name, applies):
    config = Config.model_validate({"streams": [{"match": match, "policy": {"critical_after": 9}}]})
    assert (config.for_stream(name).policy.critical_after == 9) is applies


def test_the_first_rule_that_matches_is_the_only_one():
    rules = [{"match": "a*", "policy": {"critical_after": 4}}, {"match": "ab", "policy": {"mode": "enforce"}}]
    policy = Config.model_validate({"streams": rules}).for_stream("ab").policy
    assert (policy.critical_after, policy.mode) == (4, "shadow")


def test_streams_of_one_rule_share_one_object():
    config = Config.model_validate({"streams": [{"match": "a*"}]})
    assert config.for_stream("a1") is config.for_stream("a2")
    assert config.for_stream("b") is config.for_stream("c")


def test_a_rule_that_can_never_apply_is_refused():
    with pytest.raises(ValidationError, match=r"streams\.1 would never apply"):
        Config.model_validate({"streams": [{"match": "a"}, {"match": "a"}]})


def test_equal_configurations_are_equal_after_they_were_used():
    used = Config()
    used.for_stream("a")
    assert used == Config()


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError):
        Config().kafka.group_id = "other"  # type: ignore[misc]
