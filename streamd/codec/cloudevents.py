"""CloudEvents 1.0 in structured mode: take the payload out of its envelope. Binary mode is only headers.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import Any, NamedTuple

from streamd.codec.record import Record, check_specversion
from streamd.errors import InvalidRecord, Reason


class Opened(NamedTuple):
    """What was inside: a JSON value, or bytes where `data_base64` held them; and the type of either."""

    record: Record
    data: Any
    content_type: str


def open_event(event: Any, record: Record) -> Opened:
    """The data of a structured event, and `record` with the event's subject and time.

    Raises:
        InvalidRecord: BAD_SCHEMA, UNKNOWN_VERSION, BAD_ENCODING.
    """
    if not isinstance(event, dict) or event.get("specversion") is None:
        raise InvalidRecord(Reason.BAD_SCHEMA, "not a CloudEvent: an object with `specversion` is expected")
    check_specversion(event["specversion"])
    for key in ("subject", "time", "datacontenttype"):
        if event.get(key) is not None and not isinstance(event[key], str):
            raise InvalidRecord(Reason.BAD_SCHEMA, f"`{key}` of the CloudEvent must be a string")
    opened = replace(record, subject=event.get("subject") or record.subject, time=event.get("time") or record.time)
    content_type = event.get("datacontenttype") or ""
    if event.get("data") is not None:
        return Opened(opened, event["data"], content_type)
    encoded = event.get("data_base64")
    if not isinstance(encoded, str):
        raise InvalidRecord(Reason.BAD_SCHEMA, "the CloudEvent has neither `data` nor `data_base64`")
    try:
        return Opened(opened, base64.b64decode(encoded, validate=True), content_type)
    except (binascii.Error, ValueError) as error:
        raise InvalidRecord(Reason.BAD_ENCODING, f"`data_base64` of the CloudEvent is not base64: {error}") from None
