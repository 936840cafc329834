"""Screen a data set before a model learns it: what is wrong with it, and what it looks like.

from streamd.screening import screen
screen(frame, label="churned")      # shows in a notebook; .findings, .to_json()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamd.screening.screening import screen

__all__ = ["screen"]


def __getattr__(name: str) -> Any:
    """`screen`, when it is asked for: it needs pyarrow and scipy, and `streamd --help` does not."""
    if name == "screen":
        from streamd.screening.screening import screen

        return screen
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
