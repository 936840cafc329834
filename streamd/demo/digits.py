"""The training demo's job, as a user would write it: a small network learns scikit-learn's handwritten digits.

`python -m streamd.demo.digits --run digits --checkpoints FOLDER`, with Kafka where the variable
STREAMD_KAFKA__BOOTSTRAP_SERVERS says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from streamd.client import TrainingMonitor

STEPS = 300
JUMP = 40.0  # times what the learning rate goes up: it diverges within some steps, and not at once to infinity
ALLOWED = ("checkpoint", "pause", "resume", "reduce_lr", "rollback")
_EVALUATE_EVERY = 50
_CHECKPOINT_EVERY = 20
_HELD_OUT = 540  # of 1,797 pictures: one of them is 0.2 % of the accuracy
_BATCH = 64

Pictures = tuple[torch.Tensor, torch.Tensor]


class Digits:
    """A network of one hidden layer, and pictures of 8 × 8 to train it on; the same for the same seed."""

    def __init__(self, seed: int = 0, steps: int = STEPS) -> None:
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        pixels, labels = load_digits(return_X_y=True)
        order = torch.randperm(len(pixels))
        images = torch.tensor(pixels / 16, dtype=torch.float32)[order]  # (1797, 64)
        answers = torch.tensor(labels)[order]
        self.held_out: Pictures = (images[:_HELD_OUT], answers[:_HELD_OUT])
        training = TensorDataset(images[_HELD_OUT:], answers[_HELD_OUT:])
        self.loader = DataLoader(training, batch_size=_BATCH, shuffle=True, drop_last=True)
        self.model: nn.Module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps, eta_min=1e-3)
        self.steps = steps

    def monitor(self, run: str, checkpoints: str, allow: Collection[str] = ALLOWED, **more: Any) -> TrainingMonitor:
        """What makes the training tell of itself, and obey."""
        return TrainingMonitor(
            run,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            checkpoints=checkpoints,
            checkpoint_every=_CHECKPOINT_EVERY,
            allow=allow,
            **more,
        )

    def train(self, monitor: TrainingMonitor, mishap: Callable[[int], object], pace: Callable[[int], object]) -> None:
        """The loop. `mishap` and `pace` are called with the step's number, before and after the weights move."""
        while monitor.step_number < self.steps and not monitor.should_stop:
            for images, labels in monitor.batches(self.loader):
                number = monitor.step_number + 1
                loss = cross_entropy(self.model(images), labels)
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                mishap(number)
                self.optimizer.step()
                self.scheduler.step()
                pace(number)
                monitor.step(loss=loss)
                if monitor.step_number % _EVALUATE_EVERY == 0:
                    monitor.log({"val/accuracy": self.accuracy()})
                if monitor.step_number >= self.steps:
                    return

    @torch.no_grad()
    def accuracy(self) -> float:
        """The share of the held-out pictures that it reads correctly."""
        images, labels = self.held_out
        return float((self.model(images).argmax(dim=1) == labels).float().mean())


class Jump:
    """The mishap: at one step, and once only, the learning rate is multiplied."""

    def __init__(self, digits: Digits, at: int | None, times: float = JUMP) -> None:
        self._optimizer = digits.optimizer
        self._at = at
        self._times = times

    def __call__(self, number: int) -> None:
        if number == self._at:
            self._at = None
            for group in self._optimizer.param_groups:
                group["lr"] *= self._times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--checkpoints", required=True, help="the folder")
    parser.add_argument("--jump-at", type=int, help="the step at which the learning rate goes wrong")
    parser.add_argument("--step-seconds", type=float, default=0.0, help="what a step takes longer than it must")
    options = parser.parse_args()
    digits = Digits()
    with digits.monitor(options.run, options.checkpoints) as monitor:
        digits.train(monitor, Jump(digits, options.jump_at), lambda _: time.sleep(options.step_seconds))


if __name__ == "__main__":
    main()
