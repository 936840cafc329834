"""A training on two processes: rank 0 speaks, and both obey the same command at the same step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rank_job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, rank_job.__file__]
    jobs = [
        subprocess.Popen(
            [*command, str(rank), "2", str(folder / "store"), str(folder / "checkpoints")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(Path(rank_job.__file__).parent), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        results = [job.communicate(timeout=100) for job in jobs]
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    assert [job.returncode for job in jobs] == [0, 0], results
    return [json.loads(output) for output, _ in results]


def test_batch_step_rate_and_weights_are_the_same_on_both_ranks_after_every_step(ranks: list[Any]) -> None:
    assert ranks[0]["seen"] == ranks[1]["seen"]


def test_every_command_is_obeyed_one_step_after_it_came(ranks: list[Any]) -> None:
    batches, steps, rates, _ = zip(*ranks[0]["seen"], strict=True)
    assert rates[:7] == (0.1,) * 5 + (0.05,) * 2  # sent at 5, obeyed at 6
    assert steps == (*range(1, 10), 4, 5, 6, 7, 8, 9)  # the rollback, sent at 9, goes back to the checkpoint of step 4
    assert batches == (*range(10), 12, 13, 14, 15, 16)  # two were passed over, and `stop` ended the loop early


def test_rank_0_alone_speaks_and_answers_for_all(ranks: list[Any]) -> None:
    assert (ranks[1]["points"], ranks[1]["acks"]) == ([], [])
    assert [(name, outcome) for name, outcome, _ in ranks[0]["acks"]] == [
        ("checkpoint", "done"),
        ("explode", "refused"),
        ("reduce_lr", "done"),
        ("pause", "done"),
        ("rollback", "done"),
        ("skip_batches", "done"),
        ("stop", "done"),
    ]


def test_the_gradient_norm_is_that_of_the_average_over_the_ranks(ranks: list[Any]) -> None:
    assert ranks[0]["norms"] == pytest.approx(ranks[1]["norms"])
    assert [norm for _, norm, _ in ranks[0]["points"]] == pytest.approx(ranks[0]["norms"], rel=1e-5)
    assert ranks[0]["points"][0][2] == ["0.bias", "0.weight", "2.bias", "2.weight"]
