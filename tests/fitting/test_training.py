from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain

import pytest
import torch
from torch import nn

from streamd.fitting.base import Epoch, FitError, unwatched
from streamd.fitting.training import built, one_thread, train
from streamd.fitting.training_settings import TrainedSettings


class Script:
    """A lesson whose validation losses are given; its one weight is the number of steps made."""

    def __init__(self, rows: int, checks: Sequence[float | None], losses: float = 1.0) -> None:
        self.rows = rows
        self.weight = torch.zeros(())
        self.chosen: list[list[int]] = []
        self._checks = iter(checks)
        self._losses = losses

    def kept(self) -> Sequence[torch.Tensor]:
        return [self.weight]

    def step(self, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        self.chosen.append(chosen.tolist())
        self.weight += 1
        return {"training": torch.tensor(self._losses)}

    def check(self) -> float | None:
        return next(self._checks)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def schedule(**changes: object) -> TrainedSettings:
    return TrainedSettings(**{"batch_rows": 4, "epochs_max": 8, "patience_epochs": 2, **changes})  # type: ignore[arg-type]


def test_it_stops_when_nothing_better_comes_and_goes_back_to_the_best() -> None:
    lesson = Script(8, [3, 2, 1, 5, 1, 0])
    assert train(lesson, schedule(), generator(), unwatched) == 5
    assert lesson.weight == 6  # two steps a pass, three passes


def test_without_validating_rows_every_pass_is_made_and_the_last_is_kept() -> None:
    lesson = Script(8, [None] * 8)
    assert train(lesson, schedule(), generator(), unwatched) == 8
    assert lesson.weight == 16


def test_each_pass_goes_through_all_rows_once_in_an_order_of_its_own() -> None:
    lesson = Script(12, [2, 1])
    train(lesson, schedule(epochs_max=2), generator(), unwatched)
    first, second = list(chain(*lesson.chosen[:3])), list(chain(*lesson.chosen[3:]))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_the_number_of_steps_has_a_bound() -> None:
    lesson = Script(12, [None] * 8)
    assert train(lesson, schedule(steps_max=7), generator(), unwatched) == 2


def test_fewer_rows_than_a_batch_are_one() -> None:
    lesson = Script(1, [None])
    assert train(lesson, schedule(epochs_max=1), generator(), unwatched) == 1
    assert lesson.chosen == [[0]]


@pytest.mark.parametrize(
    ("lesson", "why"),
    [
        (Script(4, [1.0], losses=math.nan), "in pass 1 the training loss is nan: .* smaller learning_rate"),
        (Script(4, [1.0, math.inf]), "in pass 2 the validation loss is inf"),
    ],
)
def test_a_loss_that_is_not_finite_stops_with_a_word(lesson: Script, why: str) -> None:
    with pytest.raises(FitError, match=why):
        train(lesson, schedule(), generator(), unwatched)


def test_each_pass_is_told() -> None:
    told: list[Epoch] = []
    train(Script(8, [3.0, 2.0]), schedule(epochs_max=2), generator(), told.append)
    assert told == [Epoch(1, 2, {"training": 1, "validation": 3}), Epoch(2, 2, {"training": 1, "validation": 2})]


def test_first_weights_come_from_the_generator_alone() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(64, 8), nn.LSTM(8, 4))

    torch.manual_seed(1)
    first = built(make, generator()).state_dict()
    before = torch.get_rng_state()
    torch.manual_seed(2)
    second = built(make, generator()).state_dict()
    torch.set_rng_state(before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["1.running_var"], torch.ones(16))
    assert first["3.weight"].abs().max() <= math.sqrt(6 / 72)
    assert first["0.weight"].std() == pytest.approx(math.sqrt(2 / (19 * 9)), rel=0.1)
    assert not first["3.bias"].any()
    assert all(bool(value.isfinite().all()) for value in first.values())


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
