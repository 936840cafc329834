"""The Lightning callback in a real fit. Tested with lightning 2.6."""

# ruff: noqa: E402 - what comes first decides whether the rest can be imported
from __future__ import annotations

from pathlib import Path
from typing import Any

import needs
import pytest
import torch
from torch import nn
from training import Commander, Inbox, command

needs.package("lightning", "pip install lightning")

import lightning.pytorch as pl

from streamd.client.commands import NAMES
from streamd.client.lightning import StreamdCallback

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).square().mean()
        self.losses.append(loss.item())
        self.log("spread", batch[0].std(), on_step=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).square().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


def fit(callback: StreamdCallback, folder: Path, **arguments: Any) -> tuple[Module, Any]:
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(48, 4))
    loader = torch.utils.data.DataLoader(data, batch_size=8)
    module = Module()
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[callback],
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )
    trainer.fit(module, loader, loader)
    return module, trainer


def test_every_step_and_every_evaluation_is_sent(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()
    callback = StreamdCallback("r", connect=lambda: inbox, connect_commands=lambda: commander, tensors_every=1)
    module, _ = fit(callback, tmp_path)
    steps = [point for point in inbox.points if "loss" in point.metrics]
    assert [point.step for point in steps] == list(range(1, 13))
    assert [point.metrics["loss"] for point in steps] == pytest.approx(module.losses, rel=1e-5)
    assert {"grad_norm", "lr", "spread", "step_seconds"} <= set(steps[-1].metrics)
    assert "update_ratio" in steps[-1].tensors["layer.weight"]
    assert [point.epoch for point in steps] == [0.0] * 6 + [1.0] * 6
    assert [point.step for point in inbox.points if "val_loss" in point.metrics and "loss" not in point.metrics] == [
        6,
        12,
    ]


def test_the_end_of_a_fit_is_said_and_that_it_failed(tmp_path: Path) -> None:
    class Failing(StreamdCallback):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            super().on_train_batch_end(trainer, *rest)
            if trainer.global_step == 3:
                raise ZeroDivisionError

    done, failed, commander = Inbox(), Inbox(), Commander()
    fit(StreamdCallback("r", connect=lambda: done, connect_commands=lambda: commander), tmp_path)
    with pytest.raises(ZeroDivisionError):
        fit(Failing("r", connect=lambda: failed, connect_commands=lambda: commander), tmp_path)
    assert (done.ends, failed.ends) == ([(12, "done")], [(3, "failed")])


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()
    callback = StreamdCallback("r", connect=lambda: inbox, connect_commands=lambda: commander)
    fit(callback, tmp_path, accumulate_grad_batches=3)
    assert [point.step for point in inbox.points if "loss" in point.metrics] == [1, 2, 3, 4]


def test_commands_are_obeyed_and_stop_ends_the_fit(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()
    rates: list[float] = []

    class Sending(StreamdCallback):
        def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == 2:
                commander.send(command("checkpoint"), command("reduce_lr"), command("skip_batches", args={"count": 1}))
            if trainer.global_step == 4:
                commander.send(command("rollback"), command("stop"))
            super().on_train_batch_end(trainer, *rest)
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    callback = Sending(
        "r", connect=lambda: inbox, connect_commands=lambda: commander, allow=NAMES, checkpoints=tmp_path / "saved"
    )
    _, trainer = fit(callback, tmp_path)
    assert rates == [0.1, 0.05, 0.05, 0.05]
    assert trainer.global_step == 4
    assert inbox.answers == [
        ("checkpoint", "done"),
        ("reduce_lr", "done"),
        ("skip_batches", "refused"),
        ("rollback", "done"),
        ("stop", "done"),
    ]
