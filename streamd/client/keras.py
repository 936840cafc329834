"""A Keras 3 callback: `model.fit(…, callbacks=[StreamdCallback("run")])`. Needs keras; torch for checkpoints."""

from __future__ import annotations

from typing import Any

import keras

from streamd.client.commands import Refused, reduction
from streamd.client.monitor import TrainingMonitor
from streamd.model import Command


class StreamdCallback(keras.callbacks.Callback):  # type: ignore[misc]  # its types are not read
    """Watches a fit: the loss of every batch, metrics, evaluations; obeys what is allowed.

    Keras gives the mean since the epoch began; the batch's own loss is taken back out of it, which is exact for
    batches of one size. `skip_batches` is refused: the loop is Keras's.

    Args:
        run: the run's name.
        arguments: of TrainingMonitor: allow, checkpoints, bootstrap_servers, …
    """

    def __init__(self, run: str, **arguments: Any) -> None:
        super().__init__()
        self._run = run
        self._arguments = arguments
        self._monitor: TrainingMonitor | None = None
        self._epoch = 0
        self._mean = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        arguments = dict(self._arguments)
        if "checkpoints" in arguments:
            from streamd.client.training.keras_weights import KerasWeights

            arguments["state"] = {"model": KerasWeights(self.model), **arguments.get("state", {})}
        handlers = {"reduce_lr": self._reduce_lr, **arguments.pop("handlers", {})}
        self._monitor = TrainingMonitor(self._run, handlers=handlers, **arguments)
        self._monitor.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._mean = epoch, 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._monitor is None:
            return
        metrics = dict(logs or {})
        if "loss" in metrics:
            before, self._mean = self._mean, float(metrics["loss"])
            metrics["loss"] = self._mean * (batch + 1) - before * batch if batch else self._mean
        self._monitor.step(metrics | {"lr": float(self.model.optimizer.learning_rate)}, epoch=self._epoch)
        if self._monitor.should_stop:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._monitor is not None:
            evaluation = {name: value for name, value in (logs or {}).items() if name.startswith("val_")}
            if evaluation:
                self._monitor.log(evaluation, epoch=epoch)

    def on_train_end(self, logs: Any = None) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def _reduce_lr(self, command: Command) -> str:
        factor, min_lr = reduction(command.args)
        optimizer = self.model.optimizer
        if isinstance(getattr(optimizer, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
            raise Refused("the optimizer's learning rate is a schedule, which cannot be lowered")
        before = float(optimizer.learning_rate)
        after = min(before, max(before * factor, min_lr))
        optimizer.learning_rate = after
        return f"{before:g} → {after:g}"
