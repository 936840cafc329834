"""Summaries of a job's own for the rules about classes: the right and the wrong answers of a batch or an evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Tensors = Mapping[str, Mapping[str, Any]]
Summaries = dict[str, dict[str, float | None]]


def class_summaries(labels: Iterable[Any], predictions: Iterable[Any], names: Sequence[str] | None = None) -> Summaries:
    """Confusion matrix and counts of each class, for `monitor.step(tensors=…)` or `monitor.log(tensors=…)`.

    The rules `confusion` and `class_imbalance` read them, and add up what is sent. Tensors on a device are waited for.

    Args:
        labels, predictions: one class a row: lists, numpy or torch.
        names: of the classes 0, 1, …; None: the classes themselves.

    Raises:
        ValueError: not one prediction a label.
        KeyError: a class has no name.

    >>> summaries = class_summaries([0, 0, 1], [0, 1, 1], names=["cat", "dog"])
    >>> summaries["confusion/cat"]
    {'cat': 1.0, 'dog': 1.0}
    >>> summaries["class/cat"]
    {'samples': 2.0, 'mispredictions': 1.0}
    """
    found: Summaries = {}
    named = None if names is None else dict(enumerate(names))
    pairs = Counter(zip(_listed(labels), _listed(predictions), strict=True))
    for (label, prediction), count in pairs.items():
        true, said = (str(item) if named is None else named[item] for item in (label, prediction))
        row = found.setdefault(f"confusion/{true}", {})
        row[said] = (row.get(said) or 0.0) + count
        seen = found.setdefault(f"class/{true}", {"samples": 0.0, "mispredictions": 0.0})
        seen["samples"] = (seen["samples"] or 0.0) + count
        seen["mispredictions"] = (seen["mispredictions"] or 0.0) + (count if label != prediction else 0)
    return found


def numbers(tensors: Tensors) -> Summaries:
    """The same with names that are text and values that are floats or None.

    Raises:
        TypeError, ValueError: a value is not one number.
    """
    return {
        str(name): {str(what): None if value is None else float(value) for what, value in values.items()}
        for name, values in tensors.items()
    }


def _listed(values: Any) -> list[Any]:
    return list(values.tolist() if hasattr(values, "tolist") else values)
