"""The loss curve of a fit, as a picture that stands by itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from streamd.fitting.base import Epoch
from streamd.pages.sheet import STYLE
from streamd.pages.svg import Axis, Colour, Curve, Mark, curves

_COLOURS: tuple[Colour, ...] = ("one", "two", "three", "four")


def loss_curve(epochs: Sequence[Epoch]) -> bytes:
    """An SVG file: each of the losses over the epochs, its name at its end."""
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.losses))
    points = {name: [(epoch.number, epoch.losses[name]) for epoch in epochs if name in epoch.losses] for name in names}
    values = [value for line in points.values() for _, value in line]
    log = min(values) > 0 and max(values) > 20 * min(values)  # else a line that falls fast hides the rest
    x = Axis("epoch", 1, max(2, epochs[-1].number))
    y = Axis("loss", min(values) if log else min(0.0, *values), max(values), log=log)
    lines = [Curve(colour, points[name]) for name, colour in zip(names, _COLOURS, strict=False)]
    picture = curves("Loss", x, y, lines, [Mark(*points[name][-1], name) for name in names])
    style = f"<style>{escape(STYLE, quote=False)} svg {{ background: var(--panel); padding: 12px; }}</style>"
    return picture.replace(">", f' xmlns="http://www.w3.org/2000/svg">{style}', 1).encode()
