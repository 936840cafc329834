"""The Hugging Face callback in a real Trainer. Tested with transformers 5.23."""

# ruff: noqa: E402 - what comes first decides whether the rest can be imported
from __future__ import annotations

from pathlib import Path
from typing import Any

import needs
import pytest
import torch
from training import Commander, Inbox, command

needs.package("transformers", "pip install 'transformers[torch]'")
needs.package("accelerate", "pip install 'transformers[torch]'")

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from streamd.client.commands import NAMES
from streamd.client.transformers import StreamdCallback

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def trainer_of(callback: StreamdCallback, folder: Path, **arguments: Any) -> Trainer:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=2
    )
    rows = [{"input_ids": torch.randint(0, 20, (6,)), "labels": torch.tensor(i % 2)} for i in range(32)]
    settings = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        num_train_epochs=2,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        eval_strategy="epoch",
        disable_tqdm=True,
        **arguments,
    )
    return Trainer(
        model=BertForSequenceClassification(config),
        args=settings,
        train_dataset=rows,
        eval_dataset=rows[:8],
        callbacks=[callback],
    )


def test_every_step_and_every_evaluation_is_sent(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()
    callback = StreamdCallback("r", connect=lambda: inbox, connect_commands=lambda: commander, tensors_every=1)
    trainer = trainer_of(callback, tmp_path)
    trainer.train()
    steps = [point for point in inbox.points if "loss" in point.metrics]
    assert [point.step for point in steps] == list(range(1, 9))
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [p.metrics["loss"] for p in steps] == pytest.approx([float(e["loss"]) for e in logged], abs=1e-3)
    assert [p.metrics["grad_norm"] for p in steps] == pytest.approx([float(e["grad_norm"]) for e in logged], rel=1e-2)
    assert "update_ratio" in steps[-1].tensors["classifier.weight"]
    assert [point.step for point in inbox.points if "eval_loss" in point.metrics] == [4, 8]
    assert inbox.ends == [(8, "done")]


def test_commands_are_obeyed_and_stop_ends_the_training(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()

    class Sending(StreamdCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                commander.send(command("checkpoint"), command("reduce_lr", args={"factor": 0.1}))
            if state.global_step == 4:
                commander.send(command("rollback"), command("stop"))
            super().on_step_end(args, state, control, **kwargs)

    callback = Sending(
        "r", connect=lambda: inbox, connect_commands=lambda: commander, allow=NAMES, checkpoints=tmp_path / "saved"
    )
    trainer = trainer_of(callback, tmp_path, lr_scheduler_type="constant", learning_rate=1e-3)
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert inbox.answers == [("checkpoint", "done"), ("reduce_lr", "done"), ("rollback", "done"), ("stop", "done")]
