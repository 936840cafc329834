"""A Hugging Face callback: `Trainer(…, callbacks=[StreamdCallback("run")])`. Needs transformers."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from streamd.client.monitor import TrainingMonitor


class StreamdCallback(TrainerCallback):  # type: ignore[misc]  # its types are not read
    """Watches a Trainer: the loss at every optimizer step, whatever `logging_steps` is, and evaluations.

    The loss is the model's own output in training mode; with gradient accumulation, the mean over the micro-batches.
    A rollback sets back weights, optimizer and schedule, not the Trainer's own count of steps. `skip_batches` is
    refused: the loop is the Trainer's.

    Args:
        run: the run's name.
        arguments: of TrainingMonitor: allow, checkpoints, bootstrap_servers, …
    """

    def __init__(self, run: str, **arguments: Any) -> None:
        self._run = run
        self._arguments = arguments
        self._monitor: TrainingMonitor | None = None
        self._handle: Any = None
        self._losses: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        optimizer, scheduler = kwargs.get("optimizer"), kwargs.get("lr_scheduler")
        self._handle = model.register_forward_hook(self._forward)
        self._monitor = TrainingMonitor(
            self._run,
            model=model,
            optimizer=getattr(optimizer, "optimizer", optimizer),  # accelerate's wrappers
            scheduler=getattr(scheduler, "scheduler", scheduler),
            first_step=state.global_step + 1,
            **self._arguments,
        )
        self._monitor.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._monitor is None:
            return
        losses, self._losses = self._losses, []
        self._monitor.step(loss=sum(losses) / len(losses) if losses else None, epoch=state.epoch)
        if self._monitor.should_stop:
            control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if self._monitor is not None:
            self._monitor.log(metrics or {}, epoch=state.epoch)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._monitor is not None:
            self._handle.remove()
            self._monitor.close()

    def _forward(self, module: Any, _inputs: Any, output: Any) -> None:
        loss = output.get("loss") if hasattr(output, "get") else None
        if module.training and loss is not None:
            self._losses.append(loss.detach())
