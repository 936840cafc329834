"""The page for people: one self-contained document, put together from its three parts.

Names come from producers, so the script only ever writes text, never markup, and the policy lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def _part(name: str) -> str:
    return (files("streamd.observe.live") / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE, _SCRIPT = _part("page.css"), _part("page.js")

PAGE = _part("page.html").replace("{{style}}", _STYLE).replace("{{script}}", _SCRIPT)

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; connect-src 'self'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
