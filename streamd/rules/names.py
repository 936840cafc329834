"""Which metric is what, by the names that frameworks give: training losses, gradient norms, learning rates, …"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal

_EVALUATION = re.compile(r"(^|[/_. -])(val|valid|validation|eval|evaluation|test|dev)([/_. -]|$)")
_LOWER = re.compile(
    r"(^|[/_. -])(loss|losses|nll|error|err|perplexity|ppl|mse|rmse|mae|mape|wer|cer|fid|bpb|bpc|ce|cross_entropy)"
    r"(\d*)$"
)
_HIGHER = re.compile(
    r"(^|[/_. -])(acc|accuracy|f1|auc|auroc|auprc|ap|map|iou|miou|dice|bleu|rouge\w*|precision|recall|r2|score|reward"
    r"|return|ndcg|mrr|psnr|ssim|top[1-5])(@?\d*)$"
)
_GRADIENT = re.compile(r"(^|[/_. -])(grad|gradient)s?[/_. -]?(norm|l2)(_total|_global)?$")
_LEARNING_RATE = re.compile(r"(^|[/_. -])(lr|learning_rate)([/_. -]|$)")


@lru_cache(maxsize=4096)
def role_of(name: str) -> Literal["loss", "evaluation", "grad_norm", "learning_rate", "other"]:
    """What a metric of that name is.

    >>> [role_of(n) for n in ("train/loss", "lm loss", "val/f1", "eval_loss", "grad_norm", "lr", "loss_scale")]
    ['loss', 'loss', 'evaluation', 'evaluation', 'grad_norm', 'learning_rate', 'other']
    """
    lower = name.lower()
    if _EVALUATION.search(lower):
        return "evaluation"
    if _GRADIENT.search(lower):
        return "grad_norm"
    if _LEARNING_RATE.search(lower):
        return "learning_rate"
    return "loss" if re.search(r"(^|[/_. -])loss(es)?$", lower) else "other"


@lru_cache(maxsize=4096)
def better(name: str) -> Literal["lower", "higher"] | None:
    """Which way a metric of that name gets better; None: its name does not tell.

    >>> better("val/f1"), better("eval_loss"), better("val/top5"), better("val/seconds")
    ('higher', 'lower', 'higher', None)
    """
    lower = name.lower()
    if _LOWER.search(lower):
        return "lower"
    return "higher" if _HIGHER.search(lower) else None


def chosen(metrics: Mapping[str, float], patterns: tuple[str, ...]) -> list[tuple[str, float]]:
    """The metrics that `patterns` mean: a role (`loss`, `evaluation`, `grad_norm`), a name or a shell pattern."""
    return [(name, value) for name, value in metrics.items() if _is_one_of(name, patterns)]


@lru_cache(maxsize=16384)
def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    role = role_of(name)
    return any(role == pattern or fnmatchcase(name, pattern) for pattern in patterns)
