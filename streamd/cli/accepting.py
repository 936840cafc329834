"""`streamd ctl accept` and `undo`: a person says what normal is, and sees what the daemon makes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import typer
from kafka.structs import TopicPartition

from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.cli.listening import heard, listening
from streamd.client.sender import Sender
from streamd.codec.encode import Encoded, encode_reset, encode_undo
from streamd.config import Config
from streamd.dead_letters import read_letter
from streamd.transport.kafka_auth import client_options

ACCEPTED = "accepted as the new normal"
_SEND_SECONDS = 15.0


def encoded(
    action: Literal["accept", "undo"], stream: str, columns: Sequence[str], author: str, reason: str, now_ms: int
) -> Encoded:
    """The message of `action`."""
    if action == "undo":
        return encode_undo(stream, author=author, ts_ms=now_ms)
    return encode_reset(stream, author=author, ts_ms=now_ms, columns=columns, reason=reason)


def tell(stream: str, message: Encoded, settings: Config, wait: float) -> None:
    """Send it, and end with an error where the daemon refuses it or none takes it within `wait` seconds."""
    if wait == 0:
        _publish(stream, message, settings)
        return
    # What the daemon refuses it puts among the dead letters, in the transaction that commits the record's offset.
    with listening(settings, settings.topics.dlq, settings.kafka.group_id) as letters:
        _publish(stream, message, settings)
        topic = settings.topics.features
        partitions = [TopicPartition(topic, number) for number in sorted(letters.partitions_for_topic(topic))]
        ends = letters.end_offsets(partitions)
        deadline = time.monotonic() + wait
        taken = False
        while True:
            for envelope in heard(letters):
                letter = read_letter(envelope)
                if letter is not None and letter.original.value == message[0]:
                    fail(ExitCode.DATA, letter.error)
            if taken:
                return
            taken = all((letters.committed(each) or 0) >= ends[each] for each in partitions)
            if not taken and time.monotonic() > deadline:
                break
    fail(
        ExitCode.UNAVAILABLE,
        f"{stream}: sent, and the daemons of the group {settings.kafka.group_id} have not come to it within {wait:g} s",
    )


def said(action: Literal["accept", "undo"], stream: str, columns: Sequence[str], settings: Config) -> str:
    """What happens now, in a sentence."""
    if action == "undo":
        return f"{stream}: the reference before this one is in force again"
    what = f"{stream}: {', '.join(columns)} {ACCEPTED}" if columns else f"{stream}: {ACCEPTED}"
    reference = settings.for_stream(stream).reference
    if columns:
        return f"{what}; the next rows become the reference, as many as it has, {reference.first_rows or 2000} at most"
    if reference.bundle is not None:
        return f"{what}; the reference is that of {reference.bundle} again: `streamd fit` writes another"
    if reference.first_rows is None:
        return f"{what}; nothing is compared until a new reference is sent"
    return f"{what}; the next {reference.first_rows} calm rows become the reference"


def _publish(stream: str, message: Encoded, settings: Config) -> None:
    options = client_options(settings.kafka)
    with Sender(options.pop("bootstrap_servers"), settings.topics.features, **options) as sender:
        sender.deliver(stream, *message, timeout_seconds=_SEND_SECONDS, what="the message")


def options_that_say_nothing(action: str, given: dict[str, object]) -> None:
    """BadParameter for the first option that was given and is of training runs, or of accept alone."""
    for option, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{option.replace('_', '-')} says nothing to {action}")
