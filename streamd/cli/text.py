"""Text from strangers, made fit for a terminal: what is in a record comes from whoever may write to its topic."""

from __future__ import annotations


def printable(text: str) -> str:
    """Without what could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clipped(text: str, width: int | None) -> str:
    """At most `width` characters, the last of them `…` where something is missing; None: all of it."""
    if width is None or len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…"


def counted(number: int, noun: str) -> str:
    """`1 record`, `1,204 records`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
