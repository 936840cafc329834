"""Dead letters read back: what was the original, why was it refused, and how does it go back. Pure.

A dead letter is the original record with headers of ours behind its own (see sinks/records). Going back, it is the
original again, with one header more: `dlq.replayed: n`, the n-th time. Without it a record that fails again would
look like a new failure, and a replay that runs every night would send the same bad records for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamd.model import Envelope, Header
from streamd.transport.base import Outgoing

REPLAYED = "dlq.replayed"

_OURS = frozenset(
    f"dlq.{name}"
    for name in ("topic", "partition", "offset", "timestamp", "stage", "reason", "error", "app.version", "replayed")
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that could not be used, and what is known about it.

    Attributes:
        dlq_place: `topic/partition/offset` of the dead letter itself.
        original: the record as it was in its topic, without headers of ours.
        replayed: how often it had been sent back before it failed this time.
    """

    dlq_place: str
    original: Envelope
    stage: str
    reason: str
    error: str
    version: str
    replayed: int

    @property
    def place(self) -> str:
        """`topic/partition/offset` of the original."""
        return f"{self.original.topic}/{self.original.partition}/{self.original.offset}"

    @property
    def identity(self) -> tuple[str, int, int, int]:
        """The same for every dead letter of one record. With its time, since a topic may have been made anew."""
        return (self.original.topic, self.original.partition, self.original.offset, self.original.timestamp_ms)

    def to_send(self, topic: str | None = None) -> Outgoing:
        """The original again, for its own topic or another. Kafka's "no timestamp" (-1) cannot be sent: it gets one."""
        headers = (*self.original.headers, (REPLAYED, str(self.replayed + 1).encode()))
        time_ms = self.original.timestamp_ms
        return Outgoing(
            topic or self.original.topic,
            self.original.key,
            self.original.value,
            headers,
            time_ms if time_ms >= 0 else None,
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters: each that is not None narrows them down. `since_ms` is about the original's time."""

    reasons: frozenset[str] | None = None
    topic: str | None = None
    stage: str | None = None
    since_ms: int | None = None

    def matches(self, letter: Letter) -> bool:
        return (
            (self.reasons is None or letter.reason in self.reasons)
            and (self.topic is None or letter.original.topic == self.topic)
            and (self.stage is None or letter.stage == self.stage)
            and (self.since_ms is None or letter.original.timestamp_ms >= self.since_ms)
        )


def read_letter(record: Envelope) -> Letter | None:
    """The dead letter that this record is; None when it is none of ours.

    A header that stands there twice (a dead letter that somebody copied back whole, and that failed again) is
    about the last failure.
    """
    said = {name: value.decode(errors="replace") for name, value in record.headers if name in _OURS and value}
    try:
        original = Envelope(
            topic=said["dlq.topic"],
            partition=int(said["dlq.partition"]),
            offset=int(said["dlq.offset"]),
            timestamp_ms=int(said["dlq.timestamp"]),
            key=record.key,
            value=record.value,
            headers=_without_ours(record.headers),
        )
        return Letter(
            dlq_place=f"{record.topic}/{record.partition}/{record.offset}",
            original=original,
            stage=said["dlq.stage"],
            reason=said["dlq.reason"],
            error=said.get("dlq.error", ""),
            version=said.get("dlq.app.version", ""),
            replayed=max(0, int(said.get(REPLAYED, "0"))),
        )
    except (KeyError, ValueError):
        return None


def _without_ours(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    return tuple((name, value) for name, value in headers if name not in _OURS)
