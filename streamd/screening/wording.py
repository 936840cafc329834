"""Numbers as words, the same in every sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from streamd.screening.model import Axis

NAMED_MAX = 3


def whole(count: float) -> str:
    """A count.

    >>> whole(17424)
    '17,424'
    """
    return f"{count:,.0f}"


def number(value: float) -> str:
    """A value, to four digits.

    >>> number(0.4149120001), number(-999.0), number(12345678.0), number(418234.5)
    ('0.4149', '-999', '12,345,678', '418,200')
    """
    if 1e4 <= abs(value) < 1e9 and value != round(value):
        value = float(f"{value:.4g}")
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share; what is rare or nearly all has more digits.

    >>> percent(0.25), percent(0.0123), percent(0.00001), percent(0.9999)
    ('25 %', '1.2 %', '0.001 %', '99.99 %')
    """
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    small = min(share, 1 - share)
    places = 0 if small >= 0.1 else 1 if small >= 0.01 else 2 if small >= 0.00009 else 3
    return f"{100 * share:.{places}f} %"


def rows_of(count: int, all_rows: int) -> str:
    """A count, and its share where there are several.

    >>> rows_of(1, 1000), rows_of(20, 1000)
    ('1 of 1,000 rows', '20 of 1,000 rows (2.0 %)')
    """
    told = f"{whole(count)} of {whole(all_rows)} rows"
    return told if count < 2 else f"{told} ({percent(count / all_rows)})"


def listed(words: Sequence[str], most: int = NAMED_MAX) -> str:
    """The first few words, and how many more there are.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c", "d"])
    ('a', 'a and b', 'a, b, c and 1 more')
    """
    shown, more = list(words[:most]), len(words) - most
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def quoted(names: Iterable[str]) -> list[str]:
    """Categories in quotation marks, long ones cut."""
    return [f'"{name[:40]}…"' if len(name) > 40 else f'"{name}"' for name in names]


def moment(seconds: float) -> str:
    """A time, as short as it can be.

    >>> moment(0.0), moment(1795357800.0)
    ('1970-01-01', '2026-11-22 14:30')
    """
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    if at.hour == at.minute == at.second == 0:
        return f"{at:%Y-%m-%d}"
    return f"{at:%Y-%m-%d %H:%M}" if at.second == 0 else f"{at:%Y-%m-%d %H:%M:%S}"


def bucket(axis: Axis, place: int, last: int | None = None) -> str:
    """Where a stretch of buckets lies: `on 2026-11-22`, `between rows 4,000 and 4,999`."""
    low = axis.origin + place * axis.width
    high = axis.origin + ((place if last is None else last) + 1) * axis.width
    if axis.kind == "rows":
        return f"in rows {whole(low)} to {whole(high - 1)}"
    if high - low == 86_400.0 and low % 86_400.0 == 0:
        return f"on {moment(low)}"
    return f"from {moment(low)} to {moment(high)}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are two.

    >>> duration(90), duration(86400), duration(5400), duration(0.5)
    ('90 seconds', '24 hours', '90 minutes', '0.5 seconds')
    """
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
