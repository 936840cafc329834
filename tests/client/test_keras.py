"""The Keras 3 callback in a real fit, on the torch backend. Tested with keras 3.15."""

# ruff: noqa: E402 - what comes first decides whether the rest can be imported
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from training import Commander, Inbox, command

needs.package("keras", "pip install keras")
os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported

import keras

from streamd.client.commands import NAMES
from streamd.client.keras import StreamdCallback

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Losses(keras.callbacks.Callback):
    """What Keras itself says: the mean since the epoch began."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.means.append(float(logs["loss"]))


def fit(callback: StreamdCallback, *more: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
    x = np.random.default_rng(0).normal(size=(32, 4))
    model.fit(
        x, x[:, :1], batch_size=8, epochs=2, verbose=0, validation_data=(x, x[:, :1]), callbacks=[callback, *more]
    )
    return model


def test_every_batch_and_every_evaluation_is_sent(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()
    means = Losses()
    fit(StreamdCallback("r", connect=lambda: inbox, connect_commands=lambda: commander), means)
    steps = [point for point in inbox.points if "loss" in point.metrics]
    assert [point.step for point in steps] == list(range(1, 9))
    losses = np.array([point.metrics["loss"] for point in steps]).reshape(2, 4)
    assert (losses.cumsum(axis=1) / [1, 2, 3, 4]).ravel().tolist() == pytest.approx(means.means, rel=1e-4)
    assert steps[0].metrics["lr"] == pytest.approx(0.1)
    assert [(point.step, point.epoch) for point in inbox.points if "val_loss" in point.metrics] == [(4, 0.0), (8, 1.0)]
    assert inbox.ends == [(8, "done")]


def test_commands_are_obeyed_and_stop_ends_the_fit(tmp_path: Path) -> None:
    inbox, commander = Inbox(), Commander()
    weights: list[Any] = []

    class Sending(StreamdCallback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                weights.append(self.model.get_weights())
                commander.send(command("checkpoint"), command("reduce_lr", args={"factor": 0.1, "min_lr": 0.05}))
            if batch == 3:
                commander.send(command("rollback"), command("stop"))
            super().on_train_batch_end(batch, logs)

    callback = Sending(
        "r", connect=lambda: inbox, connect_commands=lambda: commander, allow=NAMES, checkpoints=tmp_path
    )
    model = fit(callback)
    assert inbox.answers == [("checkpoint", "done"), ("reduce_lr", "done"), ("rollback", "done"), ("stop", "done")]
    assert [w.tolist() for w in model.get_weights()] == [w.tolist() for w in weights[0]]
    assert int(model.optimizer.iterations) == 2
