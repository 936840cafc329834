"""Variables: every key has one, unknown ones are told, what is not ours is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from streamd.config import Config
from streamd.config_loading import leaves, load
from streamd.configuration.documents import flow
from streamd.configuration.problems import variable
from streamd.errors import ConfigError

DEFAULT = Config()
LOGIN = {
    "STREAMD_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "STREAMD_KAFKA__SASL_MECHANISM": "PLAIN",
    "STREAMD_KAFKA__SASL_USERNAME": "me",
}


def value_at(key: tuple[str | int, ...]) -> object:
    value: object = DEFAULT
    for part in key:
        value = value[part] if isinstance(value, dict) else getattr(value, str(part))
    return value


@pytest.mark.parametrize("key", list(leaves(DEFAULT)), ids=variable)
def test_every_key_can_be_set_by_its_variable(key):
    result = load(None, {variable(key): flow(value_at(key))})
    assert result.config == DEFAULT
    assert result.origins[".".join(map(str, key))] == f"env {variable(key)}"


def test_a_variable_wins_over_the_file(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("kafka: {group_id: file, client_id: file}\ndetectors: {chi2: null}\n")
    environ = {"STREAMD_KAFKA__GROUP_ID": "variable", "STREAMD_DETECTORS__CHI2": "{}"}
    config = load(path, environ).config
    assert (config.kafka.group_id, config.kafka.client_id) == ("variable", "file")
    assert "chi2" in config.for_stream("a").detectors


def test_one_key_of_a_detector_leaves_the_others_alone():
    detectors = load(None, {"STREAMD_DETECTORS__KS__WINDOW_ROWS": "500"}).config.for_stream("a").detectors
    assert detectors["ks"].model_dump()["window_rows"] == 500
    assert set(detectors) == set(DEFAULT.for_stream("a").detectors)


def test_a_variable_finds_a_detector_whose_name_has_dashes_and_capitals(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("detectors: {Ks-Strict: {type: ks}}\n")
    config = load(path, {"STREAMD_DETECTORS__KS_STRICT__WINDOW_ROWS": "9"}).config
    assert config.for_stream("a").detectors["Ks-Strict"].model_dump()["window_rows"] == 9


def test_rules_for_streams_can_be_given_whole_or_by_number(tmp_path):
    whole = {"STREAMD_STREAMS": "[{match: a, policy: {mode: enforce}}]"}
    numbered = {"STREAMD_STREAMS__0__MATCH": "a", "STREAMD_STREAMS__0__POLICY__MODE": "enforce"}
    assert load(None, whole).config == load(None, numbered).config
    assert load(None, whole).config.for_stream("a").policy.mode == "enforce"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("STREAMD_KAFKA__GROUP", "there is no such setting; did you mean STREAMD_KAFKA__GROUP_ID?"),
        ("STREAMD_KAFKA_GROUP_ID", "there is no such setting; did you mean STREAMD_KAFKA__GROUP_ID?"),
        (
            "STREAMD_DETECTORS__KS__WINDOW_ROW",
            "there is no such setting; did you mean STREAMD_DETECTORS__KS__WINDOW_ROWS?",
        ),
        ("STREAMD_QQ", "there is no such setting"),
        ("STREAMD_KAFKA__GROUP_ID__X", "there is no kafka.group_id.x to change"),
        ("STREAMD_STREAMS__1__MATCH", "there is no streams.1 to change"),
    ],
)
def test_an_unknown_variable_is_told(name, problem, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("kafka: {group_id: a}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {name: "5"})
    assert caught.value.problems == (f"{name}: {problem}",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STREAMD_CONFIG", "/etc/streamd.yaml"),
        ("STREAMD_TEST_KAFKA", "a:1"),
        ("HOME", "/root"),
        ("STREAMD_KAFKA__GROUP_ID", ""),  # empty counts as not set: compose files write ${X:-}
        # What Kubernetes puts into every container beside Services called `streamd` and `streamd-admin`.
        ("STREAMD_SERVICE_HOST", "10.0.0.1"),
        ("STREAMD_SERVICE_PORT", "9464"),
        ("STREAMD_SERVICE_PORT_HTTP", "9464"),
        ("STREAMD_PORT", "tcp://10.0.0.1:9464"),
        ("STREAMD_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("STREAMD_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("STREAMD_ADMIN_PORT", "tcp://10.0.0.1:9464"),
        ("STREAMD_ADMIN_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
    ],
)
def test_a_variable_that_is_no_setting_is_left_alone(name, value):
    assert load(None, {name: value}).config == DEFAULT


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
        lambda text: "${" not in text and text.strip() not in ("", "~", "null", "Null", "NULL") and text[0] not in "'\""
    )
)
def test_any_password_arrives_as_it_is(password):
    kafka = load(None, {**LOGIN, "STREAMD_KAFKA__SASL_PASSWORD": password}).config.kafka
    assert kafka.sasl_password == SecretStr(password)


@pytest.mark.parametrize(
    "password", ["abc #def", "7 #def", "0123", "[x", "{a: b}", "@x", "*x", "&x", "!x", "%x", "- x", "a: b", "1e3"]
)
def test_a_password_that_looks_like_yaml_arrives_as_it_is(password):
    kafka = load(None, {**LOGIN, "STREAMD_KAFKA__SASL_PASSWORD": password}).config.kafka
    assert kafka.sasl_password == SecretStr(password)


def test_quotes_keep_null_a_text():
    assert load(None, {"STREAMD_KAFKA__GROUP_ID": "'null'"}).config.kafka.group_id == "null"


def test_a_variable_may_name_a_file(tmp_path: Path):
    (tmp_path / "p").write_text("secret\n")
    kafka = load(None, {**LOGIN, "STREAMD_KAFKA__SASL_PASSWORD": f"${{file:{tmp_path}/p}}"}).config.kafka
    assert kafka.sasl_password == SecretStr("secret")
