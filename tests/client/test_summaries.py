"""What a job's own telemetry makes Debugger's rules about weights, classes and repeated runs find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from telemetry import engine
from torch import nn
from training import Inbox, watched

from streamd.client import class_summaries
from streamd.model import Alert

PRESET = "sagemaker-debugger"


def found(rule: str, inbox: Inbox, changes: dict[str, Any] | None = None) -> str:
    """The first alert that the daemon raises about a run by one rule of the preset."""
    watch = engine({"preset": PRESET, "changes": changes or {}})
    effects = [effect for envelope in inbox.envelopes for effect in watch.step(envelope)]
    return next((effect.summary for effect in effects if isinstance(effect, Alert) and effect.detector == rule), "")


def trained(scale: float = 1.0, tensors: Sequence[Any] = ({},) * 4) -> Inbox:
    """The telemetry of a small network, the second layer of which starts so many times too wide."""
    torch.manual_seed(0)
    inbox = Inbox()
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    with torch.no_grad():
        model[2].weight.mul_(scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x = torch.randn(64, 8)
    with watched(inbox, model=model, optimizer=optimizer) as monitor:
        for summaries in tensors:
            optimizer.zero_grad()
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.step()
            monitor.step(loss=loss, tensors=summaries)
    return inbox


def test_a_weight_whose_variance_is_out_of_bounds_is_found() -> None:
    bounds = {"tensor_variance": {"max_threshold": 10.0}}
    assert found("tensor_variance", trained(), bounds) == ""
    summary = found("tensor_variance", trained(scale=100.0), bounds)
    assert "2.weight" in summary
    assert "has a variance out of bounds" in summary


def test_layers_that_start_with_unlike_variances_are_found() -> None:
    assert found("poor_weight_initialization", trained()) == ""
    summary = found("poor_weight_initialization", trained(scale=100.0))
    assert "variance across layers" in summary


def test_gradients_that_start_without_a_spread_are_found() -> None:
    summary = found(
        "poor_weight_initialization", trained(scale=1e-5), {"poor_weight_initialization": {"threshold": 1e99}}
    )
    assert "range of the gradients" in summary


def answers(wrong: float, rare: int = 10) -> list[dict[str, dict[str, float | None]]]:
    """Four steps of ten classes, the last of which has `rare` samples a step; that share of class 0 is called 1."""
    generator = np.random.default_rng(0)
    steps = []
    for _ in range(4):
        labels = generator.permutation(np.repeat(np.arange(10), [30] * 9 + [rare]))
        predictions = np.where((labels == 0) & (generator.random(len(labels)) < wrong), 1, labels)
        steps.append(class_summaries(labels, predictions, names=[f"digit {i}" for i in range(10)]))
    return steps


def test_classes_that_are_too_often_confused_are_found() -> None:
    assert found("confusion", trained(tensors=answers(wrong=0.02))) == ""
    summary = found("confusion", trained(tensors=answers(wrong=0.5)))
    assert "digit 0 as digit 1" in summary


def test_a_class_that_is_too_rare_or_too_often_wrong_is_found() -> None:
    assert found("class_imbalance", trained(tensors=answers(wrong=0.5))) == ""
    rare = found("class_imbalance", trained(tensors=answers(wrong=0.0, rare=1)))
    assert "class/digit 9 (30) times rarer than the largest class" in rare
    wrong = found("class_imbalance", trained(tensors=answers(wrong=0.9)))
    assert "class/digit 0" in wrong
    assert "of its samples mispredicted" in wrong


def test_a_run_that_does_not_repeat_another_one_is_found() -> None:
    earlier = [point.metrics["loss"] for point in trained().points]

    def again(drift: float) -> Inbox:
        inbox = Inbox()
        with watched(inbox) as monitor:
            for step, loss in enumerate(earlier):
                monitor.step({"other/loss": loss}, loss=torch.tensor(loss + drift * step))
        return inbox

    assert found("similar_across_runs", again(0.0)) == ""
    summary = found("similar_across_runs", again(0.01))
    assert "differs from the other run" in summary


def test_a_sampler_that_repeats_its_counts_is_no_tensor_that_stands_still() -> None:
    same = {"class/a": {"samples": 8.0, "mispredictions": 0.0}, "confusion/a": {"a": 8.0}}
    assert found("unchanged_tensor", trained(tensors=[same] * 8)) == ""


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_the_rows_are_scikit_learns_confusion_matrix(kind: Any) -> None:
    generator = np.random.default_rng(1)
    labels, predictions = generator.integers(0, 4, (2, 500)).tolist()
    names = ["a", "b", "c", "d"]
    summaries = class_summaries(kind(labels), kind(predictions), names)
    matrix = confusion_matrix(labels, predictions)
    for i, name in enumerate(names):
        assert [summaries[f"confusion/{name}"].get(other, 0.0) for other in names] == matrix[i].tolist()
        wanted = {"samples": float(matrix[i].sum()), "mispredictions": float(matrix[i].sum() - matrix[i, i])}
        assert summaries[f"class/{name}"] == wanted


def test_labels_without_names_are_their_own() -> None:
    assert class_summaries(["cat"], ["dog"])["confusion/cat"] == {"dog": 1.0}
    assert class_summaries([1], [1])["class/1"] == {"samples": 1.0, "mispredictions": 0.0}


def test_labels_that_have_no_name_and_lists_of_two_lengths_are_refused() -> None:
    with pytest.raises(KeyError):
        class_summaries([-1], [0], names=["a"])
    with pytest.raises(ValueError, match="shorter"):
        class_summaries([0, 1], [0])
