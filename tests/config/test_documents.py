"""The example file and the JSON Schema say what the code does."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from streamd.config import DETECTOR_TYPES, Config
from streamd.config_loading import leaves, load
from streamd.configuration.documents import example, json_schema

CONFIG = Path(__file__).parents[2] / "config"
OLD = "config/{1} is old; make it anew: streamd {0} > config/{1}"


def uncommented(text: str) -> str:
    """The example with its detectors and stream rules that stand as comments put into force."""
    text = re.sub(r"^  # (  |(?=[a-z0-9]+:$))", "  \\1", text, flags=re.M)
    text = text.replace("streams: []", "streams:")
    return re.sub(r"^#(  [- ] [a-z])", r"\1", text, flags=re.M)


def test_the_example_file_is_the_one_that_the_code_makes():
    kept = (CONFIG / "streamd.example.yaml").read_text(encoding="utf-8")
    assert kept == example(), OLD.format("config example", "streamd.example.yaml")


def test_the_schema_file_is_the_one_that_the_code_makes():
    kept = json.loads((CONFIG / "streamd.schema.json").read_text(encoding="utf-8"))
    assert kept == json_schema(), OLD.format("schema config", "streamd.schema.json")


def test_the_example_loads_to_the_default(tmp_path):
    (tmp_path / "example.yaml").write_text(example(), encoding="utf-8")
    config = load(tmp_path / "example.yaml", {}).config
    assert config == Config()
    trained = {name for name, detector in config.for_stream("a").detectors.items() if detector.needs_fit}
    assert trained <= config.for_stream("a").unasked  # naming one would train it for every stream


def test_the_example_names_every_key():
    data = yaml.safe_load(uncommented(example()))
    names = {path for path in _paths(data, ()) if path[:1] != ("streams",)}
    for key in leaves(Config()):
        if key[:1] != ("streams",) and key[-1] != "type":
            assert key in names, key
    assert set(data["detectors"]) == set(DETECTOR_TYPES)
    for name, config in DETECTOR_TYPES.items():
        assert set(data["detectors"][name]) == set(config.model_fields) - {"type"}


def _paths(value: object, path: tuple[str, ...]) -> set[tuple[str, ...]]:
    if not isinstance(value, dict):
        return {path}
    return {path} | {inner for key, item in value.items() for inner in _paths(item, (*path, key))}


def test_every_key_of_the_example_says_why():
    lines = example().splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"^(  # )? *[a-z_0-9]+:( |$)", line) and not line.startswith("#"):
            assert "# " in before or before == "detectors:", line


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "kafka: {partitions: '${env:N}', security_protocol: '${env:P:-SSL}', sasl_password: '${file:/x}'}",
        "detectors: {ks: {window_rows: 5}, chi2: null, strict: {type: ks, window_rows: 5}}",
        "streams: [{match: a, detectors: {ks: {window_rows: 5}, strict: null}, policy: {mode: enforce}}]",
    ],
)
def test_the_schema_takes_what_the_code_takes(text):
    Draft202012Validator(json_schema()).validate(yaml.safe_load(text))


def test_the_schema_takes_the_example():
    Draft202012Validator(json_schema()).validate(yaml.safe_load(example()))


@pytest.mark.parametrize(
    "text",
    [
        "kakfa: {}",
        "kafka: {partitions: x}",
        "kafka: {partitions: 0}",
        "detectors: {ks: {window_row: 5}}",
        "detectors: {strict: {window_rows: 5}}",
        "detectors: {strict: {type: ks, window_row: 5}}",
        "detectors: {a/b: {type: ks}}",
        "streams: [{detectors: {}}]",
        "log: {level: loud}",
    ],
)
def test_the_schema_refuses_what_the_code_refuses(text):
    assert not Draft202012Validator(json_schema()).is_valid(yaml.safe_load(text))
