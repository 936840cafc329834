"""`streamd demo --training`, played in a terminal of 80 columns on the embedded broker."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from streamd.cli import demo_training
from streamd.demo.screen import Screen

pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(240)]


def test_the_training_demo_ends_by_itself_with_an_accuracy_within_one_per_cent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_training, "_STEP_SECONDS", 0.03)
    monkeypatch.setattr(demo_training, "_READ_SECONDS", 0.0)
    output = io.StringIO()
    assert demo_training.play(Screen(Console(file=output, width=80)), None) == 0
    text = output.getvalue()
    happened = re.findall(r"^\S+ (critical|command|done|resolved) +(?:digits: )?(\w+)", text, re.MULTILINE)
    said = [word for kind, word in happened if kind in ("command", "done")]
    assert said == [
        *("checkpoint", "pause", "checkpoint", "pause"),
        *("reduce_lr", "reduce_lr", "rollback", "rollback", "resume", "resume"),
    ]
    assert happened[0] == ("critical", "loss")
    assert ("resolved", "loss_rise") in happened
    assert "streamd had nothing to say" in text
    recovered, undisturbed = re.findall(r"(\d+\.\d) % ", text)[-2:]
    assert float(recovered) >= float(undisturbed) - 1.0
    assert [line for line in text.splitlines() if len(line) > 80 and "--bootstrap-servers" not in line] == []
