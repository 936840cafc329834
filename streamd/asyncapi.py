"""The wire contract as an AsyncAPI 3 document, with the topics that are configured.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any, NamedTuple

import orjson

from streamd import __version__

SCHEMAS = ("feature_batch", "telemetry", "reset", "ack", "end", "alert", "command")

_JSON = "application/json"
_DRAFT = "application/schema+json;version=draft-07"


class _Channel(NamedTuple):
    """One topic, as an application sees it: `action` is what streamd does there."""

    topic: str
    action: str
    description: str
    messages: tuple[str, ...]


_CHANNELS = (
    _Channel(
        "features",
        "receive",
        "Feature batches with predictions, references, resets, acknowledgements of served models. Key: the stream.",
        ("feature_batch", "feature_batch_arrow", "reset", "ack"),
    ),
    _Channel(
        "telemetry",
        "receive",
        "Training runs, their acknowledgements and their ends. Key: the run.",
        ("telemetry", "ack", "end"),
    ),
    _Channel(
        "alerts", "send", "What was found. Key: the stream. Read it with isolation.level=read_committed.", ("alert",)
    ),
    _Channel("control", "send", "What should be done. Key: the stream or run.", ("command",)),
    _Channel("dlq", "send", "Records that could not be used, byte for byte, and why.", ("dead_letter",)),
)


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 07) of the message type `name`, one of SCHEMAS."""
    document: dict[str, Any] = orjson.loads(resources.files("streamd").joinpath("schemas", f"{name}.json").read_bytes())
    return document


def document(topics: Mapping[str, str]) -> dict[str, Any]:
    """The AsyncAPI 3.0 document.

    Args:
        topics: what is configured, by `features`, `telemetry`, `alerts`, `control`, `dlq`. What is not there is
            left out; other keys (the private state topic) are not part of the contract.
    """
    channels = [channel for channel in _CHANNELS if channel.topic in topics]
    messages = _messages()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "streamd",
            "version": __version__,
            "description": "A daemon that watches machine-learning models over Kafka.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": {
            channel.topic: {
                "address": topics[channel.topic],
                "description": channel.description,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
            }
            for channel in channels
        },
        "operations": {
            f"{channel.action}_{channel.topic}": {
                "action": channel.action,
                "channel": {"$ref": f"#/channels/{channel.topic}"},
                "summary": channel.description,
                "messages": [{"$ref": f"#/channels/{channel.topic}/messages/{name}"} for name in channel.messages],
            }
            for channel in channels
        },
        "components": {
            "messages": {name: messages[name] for channel in channels for name in channel.messages},
        },
    }


def _messages() -> dict[str, Any]:
    messages = {name: _json_message(name) for name in SCHEMAS}
    for name in ("feature_batch", "telemetry", "reset", "ack", "end"):
        messages[name]["headers"] = _headers(_INPUT_HEADERS)
    for name, kind in (("alert", "alert"), ("command", "command")):
        messages[name]["headers"] = _headers(_EVENT_HEADERS | {"ce_type": f"`io.streamd.{kind}.v1`."})
    messages["feature_batch_arrow"] = {
        "name": "feature_batch_arrow",
        "title": "Feature batch, Arrow",
        "contentType": "application/vnd.apache.arrow.stream",
        "description": "An Arrow IPC stream: each column a feature; `logits` or `probabilities` a FixedSizeList; or "
        "one FixedSizeList column `features` named by the schema metadata `streamd.feature_names` (JSON list). "
        "Schema metadata `streamd.stream`, `streamd.ts`, and `streamd.ids`: the name of the column of row ids.",
        "headers": _headers(_INPUT_HEADERS),
        "payload": {"type": "string", "format": "binary"},
    }
    messages["dead_letter"] = {
        "name": "dead_letter",
        "title": "Dead letter",
        "contentType": "application/octet-stream",
        "description": "Key, value, headers and timestamp of the original unchanged, and these headers beside them.",
        "headers": _headers(_DEAD_LETTER_HEADERS),
        "payload": {"type": "string", "format": "binary"},
    }
    return messages


def _json_message(name: str) -> dict[str, Any]:
    content = schema(name)
    return {
        "name": name,
        "title": content["title"],
        "summary": content["description"],
        "contentType": _JSON,
        # As a whole, in its own format: the references inside it begin at its own root.
        "payload": {
            "schemaFormat": _DRAFT,
            "schema": _absolute(content, f"#/components/messages/{name}/payload/schema"),
        },
    }


def _absolute(value: Any, root: str) -> Any:
    """`value` with its local references made references into the whole document."""
    if isinstance(value, dict):
        return {
            key: item.replace("#", root, 1) if key == "$ref" and isinstance(item, str) else _absolute(item, root)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_absolute(item, root) for item in value]
    return value


def _headers(descriptions: Mapping[str, str]) -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in descriptions.items()}
    return {"type": "object", "properties": properties}


_INPUT_HEADERS = {
    "content-type": "Without it the value is sniffed: JSON, or an Arrow stream.",
    "content-encoding": "`gzip` or `zstd`.",
    "streamd-schema-version": "The version of the message's schema: 1.",
    "streamd-role": "`reference`: the batch is what normal looks like.",
    "streamd-part": "`i/n`: part i of n of one reference.",
    "ce_subject": "CloudEvents 1.0 in binary mode: names the stream where payload and key do not.",
    "ce_time": "CloudEvents 1.0 in binary mode: the event time where the payload has none.",
}
_EVENT_HEADERS = {
    "ce_specversion": "`1.0`.",
    "ce_id": "Deterministic: the same after a redelivery.",
    "ce_source": "`/streamd/<group>`.",
    "ce_subject": "The stream or run.",
    "ce_time": "Event time, RFC 3339.",
    "content-type": "`application/json`.",
}
_DEAD_LETTER_HEADERS = {
    "dlq.topic": "Where the record was.",
    "dlq.partition": "Its partition.",
    "dlq.offset": "Its offset.",
    "dlq.timestamp": "Its timestamp, epoch milliseconds.",
    "dlq.stage": "`decode`, `validate` or `process`.",
    "dlq.reason": "A fixed short word.",
    "dlq.error": "One sentence: what, where, what to do.",
    "dlq.app.version": "The version of streamd.",
}
