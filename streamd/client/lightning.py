"""A Lightning callback: `Trainer(callbacks=[StreamdCallback("run")])`. Needs lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from streamd.client.monitor import TrainingMonitor


class StreamdCallback(Callback):  # type: ignore[misc]  # its types are not read
    """Watches a fit: the loss at every optimizer step, what the module logs, evaluations; obeys what is allowed.

    The module, its first optimizer, the schedulers and the gradient scaler are the trainer's own. A rollback sets
    back weights, optimizer and schedule, not Lightning's own count of steps. `skip_batches` is refused: the loop is
    Lightning's.

    Args:
        run: the run's name.
        arguments: of TrainingMonitor: allow, checkpoints, bootstrap_servers, …
    """

    def __init__(self, run: str, **arguments: Any) -> None:
        self._run = run
        self._arguments = arguments
        self._monitor: TrainingMonitor | None = None
        self._seen = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._seen = trainer.global_step
        self._monitor = TrainingMonitor(
            self._run,
            model=pl_module,
            optimizer=next(iter(trainer.optimizers), None),
            scheduler=[config.scheduler for config in trainer.lr_scheduler_configs],
            scaler=getattr(trainer.precision_plugin, "scaler", None),
            first_step=trainer.global_step + 1,
            **self._arguments,
        )
        self._monitor.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._monitor is None or trainer.global_step == self._seen:  # gradients are still being accumulated
            return
        self._seen = trainer.global_step
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        logged = {name: value for name, value in trainer.logged_metrics.items() if name != "epoch"}
        self._monitor.step(logged | {"loss": loss}, epoch=trainer.current_epoch)
        if self._monitor.should_stop:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._monitor is not None and not trainer.sanity_checking:
            self._monitor.log(trainer.logged_metrics, epoch=trainer.current_epoch)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if self._monitor is not None:
            self._monitor.close(outcome="failed")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if self._monitor is not None:
            self._monitor.close()
