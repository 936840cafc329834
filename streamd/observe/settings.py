"""What the daemon shows of itself: the admin HTTP, its logs, its metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamd.settings import Settings


class AdminSettings(Settings):
    """Where `/metrics`, `/readyz`, `/streams` and the live page are served."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """127.0.0.1 is seen from this machine only: nothing there asks for a password. 0.0.0.0 in a container."""

    port: int = Field(default=9464, ge=0, le=65535)
    """9464 is what OpenTelemetry uses for Prometheus; 0 takes any free port and says which."""


class LogSettings(Settings):
    """One line for each thing that an operator should know, on stderr."""

    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` in a terminal and `json` elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this are not written."""


class MetricSettings(Settings):
    """Caps on label values: each is a time series that Prometheus must hold."""

    stream_labels_max: int = Field(default=50, ge=0)
    """Streams and training runs with metrics of their own, the first seen; the rest are counted together as `other`."""

    feature_labels_max: int = Field(default=50, ge=0)
    """Features of each stream with metrics of their own; the rest are counted together as `other`. Of a training run:
    its metrics, losses first; the rest are left out."""


def url_of(host: str, port: int) -> str:
    """Where to ask for the admin HTTP: what listens everywhere is reached at this machine's own address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
