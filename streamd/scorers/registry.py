"""What reads a fitted scorer again, by its kind. torch and the like are imported by the kind that wants them."""

from __future__ import annotations

from typing import Literal

from streamd.scorers.base import Scorer
from streamd.scorers.fitted import Fitted

Device = Literal["auto", "cpu", "cuda"]


def load(fitted: Fitted, device: Device = "auto") -> Scorer:
    """The scorer that was fitted, on its device.

    Raises:
        ValueError: a kind that this version does not know, or parts that do not fit each other.
    """
    scorer = _read(fitted, device)
    if fitted.usual is not None and fitted.usual.shape != (len(scorer.features),):
        raise ValueError(
            f"these weights tell what is usual for {fitted.usual.shape}, and read {len(scorer.features)} columns"
        )
    return scorer


def _read(fitted: Fitted, device: Device) -> Scorer:
    match fitted.kind:
        case "reconstruction":
            from streamd.scorers import reconstruction

            return reconstruction.load(fitted, device)
        case "isolation":
            from streamd.scorers import isolation

            return isolation.load(fitted)
        case "onnx":
            from streamd.scorers import onnx

            return onnx.load(fitted)
        case "adversarial":
            from streamd.scorers.adversarial import scorer

            return scorer.load(fitted, device)
        case _:
            raise ValueError(f"a scorer of kind {fitted.kind!r} is not known to this version: fit it anew")
