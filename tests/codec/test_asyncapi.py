"""The AsyncAPI document and the JSON Schemas: whole, and true to the codec."""

from __future__ import annotations

import jsonschema
import orjson
import pytest

from streamd.asyncapi import SCHEMAS, document, schema
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord
from streamd.model import Envelope

TOPICS = {"features": "a.features", "telemetry": "b", "alerts": "c", "control": "d", "dlq": "e", "state": "f"}
ACK = {"command_id": "c", "outcome": "done"}


def references(value):
    if isinstance(value, dict):
        yield from (item for key, item in value.items() if key == "$ref")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from references(item)


def resolve(root, pointer):
    for part in pointer.removeprefix("#/").split("/"):
        root = root[part]
    return root


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_schema(name):
    jsonschema.Draft7Validator.check_schema(schema(name))
    assert schema(name)["description"]


def test_the_document_has_the_configured_topics_and_every_reference_leads_somewhere():
    api = document(TOPICS)
    assert api["asyncapi"] == "3.0.0"
    assert [channel["address"] for channel in api["channels"].values()] == ["a.features", "b", "c", "d", "e"]
    found = list(references(api))
    assert len(found) > 20
    assert all(resolve(api, pointer) is not None for pointer in found)
    assert orjson.loads(orjson.dumps(api)) == api


def test_a_topic_that_is_not_configured_is_left_out():
    assert list(document({"features": "x"})["channels"]) == ["features"]


def test_the_schema_in_the_document_validates_as_the_one_in_the_package():
    api = document(TOPICS)
    inner = api["components"]["messages"]["telemetry"]["payload"]["schema"]
    validator = jsonschema.Draft7Validator(api | {"$ref": "#/components/messages/telemetry/payload/schema"})
    assert inner["title"] == schema("telemetry")["title"]
    assert validator.is_valid({"run": "r", "step": 1, "metrics": {"loss": "NaN"}})
    assert not validator.is_valid({"run": "r", "metrics": {}})


MESSAGES = [
    ("feature_batch", {"stream": "s", "ts": 1_763_769_600_123, "features": {"a": [1, None], "c": ["x", None]}}),
    ("feature_batch", {"stream": "s", "features": {"a": [1]}, "logits": [[0.1]], "ids": ["r"]}),
    ("feature_batch", {"stream": "s", "rows": [{"a": 1}, {"b": "x"}], "role": "reference", "version": 1}),
    ("feature_batch", {"stream": "s", "probabilities": [[0.5, 0.5]]}),
    ("feature_batch", {"stream": "s", "ts": "2025-11-21T00:00:00Z", "features": {"p": [[1, 2]]}}),
    (
        "feature_batch",
        {"model_name": "m", "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}], "outputs": []},
    ),
    ("telemetry", {"run": "r", "step": 1, "epoch": None, "metrics": {"loss": None, "x": "-inf"}, "tensors": {"w": {}}}),
    ("telemetry", [{"run": "r", "step": 1}, {"run": "r", "step": 2}]),
    ("reset", {"stream": "s", "role": "reset", "author": "me"}),
    ("reset", {"stream": "s", "role": "reset", "columns": ["a"], "reason": "new prices"}),
    ("reset", {"stream": "s", "role": "undo", "author": "me"}),
    ("ack", {"stream": "s", "role": "ack", "ack": ACK}),
    ("ack", {"run": "r", "role": "ack", "ack": ACK | {"detail": "d", "at": 1_763_769_600_123}}),
    ("end", {"run": "r", "role": "end"}),
    ("end", {"run": "r", "role": "end", "step": 7, "outcome": "failed", "ts": 1_763_769_600_123}),
]
WRONG = [
    ("feature_batch", {"stream": "s"}),
    ("feature_batch", {"stream": "", "features": {"a": [1]}}),
    ("feature_batch", {"stream": "s", "features": {"a": 1}}),
    ("feature_batch", {"stream": "s", "features": {"a": [1]}, "rows": [{"a": 1}]}),
    ("feature_batch", {"stream": "s", "features": {"a": [1]}, "ts": -1}),
    ("feature_batch", {"stream": "s", "features": {"a": [1]}, "version": 2}),
    ("feature_batch", {"stream": "s", "features": {"a": [1]}, "logits": [0.1]}),
    ("telemetry", {"run": "r"}),
    ("telemetry", {"run": "r", "step": -1}),
    ("telemetry", {"run": "r", "step": 1, "metrics": {"loss": "low"}}),
    ("reset", {"stream": "s", "role": "reset", "author": 7}),
    ("reset", {"stream": "s", "role": "reset", "columns": "a"}),
    ("ack", {"stream": "s", "role": "ack", "ack": {"command_id": "c", "outcome": "maybe"}}),
    ("end", {"run": "r", "role": "end", "outcome": "maybe"}),
    ("end", {"run": "r", "role": "end", "step": -1}),
]


def kind(name, message):
    return "telemetry" if name == "telemetry" or "run" in message else "features"


@pytest.mark.parametrize(("name", "message"), MESSAGES)
def test_a_message_that_fits_its_schema_decodes(name, message):
    jsonschema.Draft7Validator(schema(name)).validate(message)
    envelope = Envelope("t", 0, 0, 1_763_769_600_123, b"k", orjson.dumps(message))
    assert decode(envelope, Limits(), kind(name, message))


@pytest.mark.parametrize(("name", "message"), WRONG)
def test_a_message_that_does_not_fit_its_schema_does_not_decode(name, message):
    assert not jsonschema.Draft7Validator(schema(name)).is_valid(message)
    envelope = Envelope("t", 0, 0, 1_763_769_600_123, b"k", orjson.dumps(message))
    with pytest.raises(InvalidRecord):
        decode(envelope, Limits(), kind(name, message))


def test_the_contracts_own_examples_of_alert_and_command_fit_their_schemas():
    alert = {
        "id": "9f2c", "status": "firing", "severity": "warning", "action": "review", "mode": "enforce",
        "stream": "fraud/7", "kind": "features", "detector": "ks", "test": "ks_2samp", "consecutive": 1,
        "statistic": 0.31, "threshold": 0.2, "p_value": 1.2e-9, "effect": {"name": "ks_distance", "value": 0.31},
        "features": [{"name": "amount", "statistic": 0.31, "p_value": 1.2e-9, "direction": "up"}],
        "window": {"topic": "streamd.features", "partition": 3, "first_offset": 100, "last_offset": 142, "rows": 1000},
        "event_time": "2026-11-22T00:00:00.123Z", "started_at": "2026-11-21T23:58:10.000Z",
        "rows": [{"id": "t-9", "score": 7.1, "features": {"age": 120}}],
        "model_sha256": None, "summary": "fraud/7: amount drifted up",
    }  # fmt: skip
    command = {
        "id": "c41d", "command": "rollback", "target": {"stream": "fraud/7"}, "args": {"to": "previous"},
        "mode": "shadow", "alert_id": "9f2c", "reason": "ks critical 3 times in a row",
        "issued_at": "2026-11-22T00:00:00.123Z", "expires_at": "2026-11-22T01:00:00.123Z",
    }  # fmt: skip
    jsonschema.Draft7Validator(schema("alert")).validate(alert)
    jsonschema.Draft7Validator(schema("command")).validate(command)
