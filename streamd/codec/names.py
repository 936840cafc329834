"""Who and when: the rules for the names and times that every format shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from datetime import UTC, datetime

from streamd.codec.limits import Limits
from streamd.errors import InvalidRecord, Reason

_YEAR_2000_MS = 946_684_800_000
_YEAR_2100_MS = 4_102_444_800_000

# Cc control, Zl and Zp line breaks, Cs half a character: each would break a log line, a label or an encoder.
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Zl", "Zp", "Cs"})


def check_stream(name: str, limits: Limits) -> str:
    """The name of a stream or run, if it may be one.

    Raises:
        InvalidRecord: BAD_STREAM_NAME.
    """
    if not 1 <= len(name) <= limits.stream_chars:
        raise InvalidRecord(
            Reason.BAD_STREAM_NAME,
            f"the stream's name has {len(name)} characters, 1 to {limits.stream_chars} are allowed",
        )
    if not name.isprintable():
        for place, character in enumerate(name):
            if unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
                raise InvalidRecord(
                    Reason.BAD_STREAM_NAME,
                    f"the stream's name has a control character, {character!a}, at place {place}: send it without",
                )
    return name


def check_names(names: Collection[str], what: str, limits: Limits) -> None:
    """Raise NAME_TOO_LONG where one of `names` is over the limit; `what` is what they are, in the singular."""
    longest = max(map(len, names), default=0)
    if longest > limits.name_chars:
        culprit = max(names, key=len)
        raise InvalidRecord(
            Reason.NAME_TOO_LONG,
            f"the {what} that starts with {culprit[:40]!r} has {longest} characters, {limits.name_chars} are allowed",
        )


def check_count(count: int, what: str, allowed: int, reason: Reason) -> None:
    """Raise `reason` where `count` of `what` is more than `allowed`."""
    if count > allowed:
        raise InvalidRecord(reason, f"{count} {what} in one record, {allowed} are allowed: send smaller batches")


def parse_time(value: object, where: str) -> int:
    """Epoch milliseconds of `value`, itself epoch milliseconds (integer) or RFC 3339.

    Raises:
        InvalidRecord: BAD_TIME; the sentence guesses at seconds, microseconds and nanoseconds.
    """
    if isinstance(value, str):
        milliseconds = _parse_rfc3339(value, where)
    elif isinstance(value, int) and not isinstance(value, bool):
        milliseconds = value
    elif isinstance(value, float) and value.is_integer():
        milliseconds = int(value)
    else:
        raise InvalidRecord(
            Reason.BAD_TIME,
            f"{where} is {_short(value)}, neither an integer (epoch milliseconds) nor an RFC 3339 string",
        )
    if not _YEAR_2000_MS <= milliseconds < _YEAR_2100_MS:
        raise InvalidRecord(
            Reason.BAD_TIME,
            f"{where} is {_short(value)}, outside the years 2000 to 2099{_guess_unit(milliseconds)}",
        )
    return milliseconds


def check_ahead(milliseconds: int, record_ms: int, where: str, limits: Limits) -> int:
    """`milliseconds`, unless it lies further ahead of the record's own time than a clock can be wrong.

    Raises:
        InvalidRecord: BAD_TIME.
    """
    # A record without a believable time of its own cannot be compared with.
    if record_ms >= _YEAR_2000_MS and milliseconds - record_ms > limits.ahead_seconds * 1000:
        raise InvalidRecord(
            Reason.BAD_TIME,
            f"{where} is {(milliseconds - record_ms) // 1000} s ahead of the record's own timestamp, "
            f"{limits.ahead_seconds} s are allowed: check the producer's clock",
        )
    return milliseconds


def _parse_rfc3339(text: str, where: str) -> int:
    try:
        if len(text) > 40:
            raise ValueError("too long")
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no offset from UTC: end it with Z")
        # Integer arithmetic: timestamp() is a float, off by a microsecond here and there.
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRecord(
            Reason.BAD_TIME, f"{where} is {text[:40]!r}, not an RFC 3339 time such as 2026-01-31T12:00:00Z ({error})"
        ) from None
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _guess_unit(milliseconds: int) -> str:
    for unit, factor in (("seconds", 1000.0), ("microseconds", 1e-3), ("nanoseconds", 1e-6)):
        if _YEAR_2000_MS <= milliseconds * factor < _YEAR_2100_MS:
            return f": it looks like {unit}, send milliseconds"
    return ": send epoch milliseconds"


def _short(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "an integer of over 40 digits"
    return text if len(text) <= 60 else text[:60] + "…"
