"""TrainingMonitor: what a step sends, held against plain torch, and what it never does to the training."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import torch
from torch import nn
from training import Inbox, watched

from streamd.client import TrainingMonitor
from streamd.client.training.gradients import Gradients

STEPS = 4


def a_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))


def train(model: nn.Module, optimizer: Any, monitor: Any = None, steps: int = STEPS) -> list[dict[str, Any]]:
    """Train, and say with plain torch what each step's statistics are."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(steps):
        x = torch.randn(32, 8, generator=generator)
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        after = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        if monitor is not None:
            monitor.step(loss=loss, accuracy=0.5)
        found.append(
            {
                "loss": loss.item(),
                "gradients": gradients,
                "variance": {n: float(before[n].var(correction=0)) for n in before},
                "update_ratio": {n: float((after[n] - before[n]).norm() / before[n].norm()) for n in before},
            }
        )
    return found


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_every_statistic_is_that_of_plain_torch_on_the_gradient_before_clipping(inbox: Inbox) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(inbox, model=model, optimizer=optimizer, tensors_every=1) as monitor:
        expected = train(model, optimizer, monitor)
    assert [point.step for point in inbox.points] == [1, 2, 3, 4]
    for point, step in zip(inbox.points, expected, strict=True):
        assert point.run == "r"
        assert point.metrics["loss"] == pytest.approx(step["loss"], rel=1e-6)
        assert point.metrics["accuracy"] == 0.5
        assert point.metrics["lr"] == 0.1
        total = torch.cat([g.flatten() for g in step["gradients"].values()]).norm()
        assert point.metrics["grad_norm"] == pytest.approx(float(total), rel=1e-5)
        assert set(point.tensors) == set(step["gradients"])
        for name, gradient in step["gradients"].items():
            wanted = {
                "grad_norm": float(gradient.norm()),
                "grad_mean_abs": float(gradient.abs().mean()),
                "nonfinite": 0.0,
                "zero_fraction": float((gradient == 0).float().mean()),
                "update_ratio": step["update_ratio"][name],
            }
            if gradient.ndim > 1:
                wanted |= {
                    "variance": step["variance"][name],
                    "grad_p05": float(gradient.quantile(0.05, interpolation="nearest")),
                    "grad_p95": float(gradient.quantile(0.95, interpolation="nearest")),
                }
            assert point.tensors[name] == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_single_tensors_are_looked_at_every_so_many_steps_and_by_name(inbox: Inbox) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(inbox, model=model, optimizer=optimizer, tensors_every=2, parameters=["2.*"]) as monitor:
        train(model, optimizer, monitor, steps=5)
    named = [sorted(point.tensors) for point in inbox.points]
    assert named[1:] == [["2.bias", "2.weight"], [], ["2.bias", "2.weight"], []]
    assert all("grad_norm" in point.metrics for point in inbox.points)


def test_a_nan_gradient_arrives_as_nan_with_the_layers_that_have_it_between_two_looks(inbox: Inbox) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(inbox, model=model, optimizer=optimizer, tensors_every=1000) as monitor:
        train(model, optimizer, monitor, steps=1)
        loss = model[:1](torch.full((4, 8), math.inf)).mean()
        loss.backward()
        monitor.step(loss=loss * math.nan, other=-math.inf)
    point = inbox.points[-1]
    assert math.isnan(point.metrics["loss"])
    assert point.metrics["other"] == -math.inf
    assert not math.isfinite(point.metrics["grad_norm"])
    assert list(point.tensors) == ["0.weight"]


def test_of_large_weights_in_any_layout_variance_and_quantiles_are_those_of_all_their_elements(inbox: Inbox) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(64, 128, 3, bias=False).to(memory_format=torch.channels_last)
    short = nn.Linear(300, 300, bias=False).to(torch.bfloat16)
    weights = [model.weight, short.weight]
    gradients = [torch.randn(weight.shape) for weight in weights]
    with watched(inbox, model=nn.ModuleDict({"conv": model, "short": short})) as monitor:
        loss = sum((w * g.to(w.dtype)).sum().float() for w, g in zip(weights, gradients, strict=True))
        loss.backward()
        monitor.step(loss=loss)
    for name, weight, gradient in zip(("conv.weight", "short.weight"), weights, gradients, strict=True):
        found = inbox.points[0].tensors[name]
        assert found["variance"] == pytest.approx(float(weight.detach().float().var()), rel=0.15)
        assert found["grad_p05"] == pytest.approx(float(gradient.flatten()[:100_000].quantile(0.05)), abs=0.3)
        assert found["grad_p95"] == pytest.approx(float(gradient.flatten()[:100_000].quantile(0.95)), abs=0.3)


def test_the_variance_of_halves_has_the_digits_of_floats(inbox: Inbox) -> None:
    torch.manual_seed(0)
    model = nn.Linear(16, 16, bias=False).to(torch.bfloat16)
    with watched(inbox, model=model) as monitor:
        model(torch.ones(1, 16, dtype=torch.bfloat16)).sum().backward()
        monitor.step(loss=1.0)
    variance = float(model.weight.detach().double().var(correction=0))
    assert inbox.points[0].tensors["weight"]["variance"] == pytest.approx(variance, rel=1e-5)


@pytest.mark.filterwarnings("ignore:grad and param do not obey")
def test_a_gradient_that_lies_otherwise_than_its_weight_is_read_as_it_lies(inbox: Inbox) -> None:
    model = nn.Linear(6, 4, bias=False)
    model.weight.grad = torch.full((4, 12), 1e6)[:, ::2].zero_()  # every other element is somebody else's
    with watched(inbox, model=model) as monitor:
        model(torch.arange(6.0).reshape(1, 6)).sum().backward()
        monitor.step(loss=1.0)
    found = inbox.points[0].tensors["weight"]
    assert (found["grad_p05"], found["grad_p95"]) == (0.0, 5.0)


@pytest.mark.parametrize("width", [512, 1000, 1024])
def test_one_input_that_is_always_zero_does_not_stand_for_the_whole_gradient(inbox: Inbox, width: int) -> None:
    model = nn.Linear(width, 512, bias=False)
    x = torch.randn(8, width)
    x[:, 0] = 0
    with watched(inbox, model=model) as monitor:
        model(x).sum().backward()
        monitor.step(loss=1.0)
    found, gradient = inbox.points[0].tensors["weight"], model.weight.grad
    assert gradient is not None
    assert found["grad_p95"] == pytest.approx(float(gradient.flatten()[: 512 * 100].quantile(0.95)), rel=0.35)


def test_a_jobs_own_summaries_arrive_beside_those_of_the_model_at_any_step(inbox: Inbox) -> None:
    model = a_model()
    own = {"0.bias": {"rank": 3}, 7: {8: torch.tensor(2.0), "none": None}}
    with watched(inbox, model=model, tensors_every=2) as monitor:
        for _ in range(3):
            model(torch.ones(1, 8)).sum().backward()
            monitor.step(loss=1.0, tensors=own)
        monitor.log({"val/f1": 0.5}, tensors={"class/a": {"samples": 4}})
    closely, between, evaluation = inbox.points[1], inbox.points[2], inbox.points[3]
    assert closely.tensors["0.bias"].keys() >= {"rank", "grad_norm"}
    assert closely.tensors["7"] == {"8": 2.0}
    assert between.tensors == {"0.bias": {"rank": 3.0}, "7": {"8": 2.0}}
    assert evaluation.tensors == {"class/a": {"samples": 4.0}}


def test_summaries_that_are_no_numbers_cost_the_step_nothing_else_and_are_said_once(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(inbox) as monitor:
        for _ in range(2):
            monitor.step(loss=1.0, tensors={"a": {"b": "text"}})
        monitor.step(loss=1.0, tensors={"a": 1.0})  # type: ignore[dict-item]
    assert [(point.metrics["loss"], point.tensors) for point in inbox.points] == [(1.0, {})] * 3
    assert len([r for r in caplog.records if "the tensors" in r.getMessage()]) == 1


def test_elements_that_are_not_finite_are_counted(inbox: Inbox) -> None:
    model = nn.Linear(4, 3)
    with watched(inbox, model=model, tensors_every=1) as monitor:
        x = torch.tensor([[math.inf, 1.0, math.nan, 1.0]])
        model(x).sum().backward()
        monitor.step(loss=1.0)
    assert inbox.points[0].tensors["weight"]["nonfinite"] == 6
    assert inbox.points[0].tensors["bias"]["nonfinite"] == 0


def test_half_precision_and_double_gradients_beside_each_other_have_the_norm_of_doubles(inbox: Inbox) -> None:
    model = nn.ModuleDict({"a": nn.Linear(64, 64).to(torch.bfloat16), "b": nn.Linear(2, 2).double()})
    with watched(inbox, model=model, tensors_every=1) as monitor:
        (1e4 * model["a"](torch.ones(1, 64, dtype=torch.bfloat16)).sum()).backward()
        model["b"](torch.ones(1, 2, dtype=torch.float64)).sum().backward()
        monitor.step(loss=1.0)
    norms = [p.grad.double().norm() for p in model.parameters() if p.grad is not None]
    assert inbox.points[0].metrics["grad_norm"] == pytest.approx(float(torch.stack(norms).norm()), rel=1e-5)


def test_the_scale_of_mixed_precision_is_taken_out(inbox: Inbox) -> None:
    model = nn.Linear(4, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with watched(inbox, model=model, scaler=scaler) as monitor:
        scaler.scale(model(torch.ones(2, 4)).sum()).backward()
        monitor.step(loss=1.0)
    assert inbox.points[0].metrics["grad_norm"] == pytest.approx(math.sqrt(4 * 4 + 4))
    assert inbox.points[0].tensors["weight"]["grad_p95"] == 2.0


def test_dead_and_saturated_units_are_counted_on_request(inbox: Inbox) -> None:
    model = a_model()
    with torch.no_grad():
        model[0].bias[:4] = -1e6  # four of sixteen never fire
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([100.0] * 8 + [0.0] * 8))
    with watched(inbox, model=model, activations=["*"]) as monitor:
        monitor.step(loss=model(torch.randn(256, 8)).sum())
    assert inbox.points[0].tensors["1"]["dead_fraction"] == pytest.approx(4 / 16)
    assert inbox.points[0].tensors["3"] == {"saturated_fraction": 0.5}


def test_watching_changes_nothing_of_the_training(inbox: Inbox) -> None:
    plain, watched_model = a_model(), a_model()
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in (plain, watched_model)]
    train(plain, optimizers[0], steps=20)
    with watched(inbox, model=watched_model, optimizer=optimizers[1], activations=["*"], tensors_every=2) as monitor:
        train(watched_model, optimizers[1], monitor, steps=20)
    for one, other in zip(plain.parameters(), watched_model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_host_step_and_data_times_are_there(inbox: Inbox) -> None:
    pytest.importorskip("psutil", reason="psutil is not installed")

    def slow_loader() -> Iterator[int]:
        for i in range(3):
            time.sleep(0.02)
            yield i

    with watched(inbox) as monitor:
        for _ in monitor.batches(slow_loader()):
            monitor.step(loss=1.0)
    last = inbox.points[-1].metrics
    assert {"cpu_percent", "cpu_mem_percent", "process_rss_bytes"} <= set(last)
    assert 0.02 <= last["data_wait_seconds"] <= last["step_seconds"]


def test_metrics_of_any_kind_arrive_and_what_is_none_is_said_once(
    inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(inbox) as monitor:
        for _ in range(2):
            monitor.step({"val/f1": 0.5}, loss=torch.tensor([2.0]), done=True, what="text", none=None)
        monitor.step(step=17, epoch=1.5, loss=torch.zeros(2))
    metrics = inbox.points[0].metrics
    assert (metrics["val/f1"], metrics["loss"], metrics["done"]) == (0.5, 2.0, 1.0)
    assert not {"what", "none"} & set(metrics)
    assert (inbox.points[-1].step, inbox.points[-1].epoch) == (17, 1.5)
    assert len([r for r in caplog.records if "metric what" in r.getMessage()]) == 1


def test_the_last_step_before_the_end_is_sent_though_the_training_raised(inbox: Inbox) -> None:
    with pytest.raises(ZeroDivisionError), watched(inbox) as monitor:  # noqa: PT012 - the step is the point
        monitor.step(loss=torch.tensor(3.0))
        raise ZeroDivisionError
    assert [point.metrics["loss"] for point in inbox.points] == [3.0]
    assert inbox.ends == [(1, "failed")]


def test_the_last_word_of_a_run_is_that_it_is_over_and_it_is_said_once(inbox: Inbox) -> None:
    with watched(inbox) as monitor:
        monitor.step(loss=torch.tensor(3.0))
        monitor.step(step=7, loss=torch.tensor(2.0))
        assert inbox.ends == []
    monitor.close()
    assert inbox.ends == [(7, "done")]
    assert orjson.loads(inbox.messages[-1].value)["role"] == "end"


def test_a_monitor_that_was_never_started_says_nothing(inbox: Inbox) -> None:
    watched(inbox).close()
    assert inbox.messages == []


def test_after_the_end_no_hook_is_left_and_a_step_does_nothing(inbox: Inbox) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(inbox, model=model, optimizer=optimizer, activations=["*"]) as monitor:
        train(model, optimizer, monitor, steps=1)
    count = len(inbox.messages)
    train(model, optimizer, monitor, steps=1)
    assert len(inbox.messages) == count
    assert not any(module._forward_hooks for module in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_fault_of_ours_neither_ends_the_training_nor_fills_the_log(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watched(inbox, model=model, optimizer=optimizer) as monitor:
        monkeypatch.setattr(Gradients, "_norms", lambda *_: 1 // 0)
        train(model, optimizer, monitor)
        monkeypatch.setattr(monitor, "_measure", lambda *_: 1 // 0)
        train(model, optimizer, monitor)
    assert len(inbox.points) == STEPS
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == 2  # gradients, measuring


@pytest.mark.slow
def test_without_a_broker_the_training_is_not_delayed_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monitor = TrainingMonitor("r", bootstrap_servers=f"127.0.0.1:{port}", allow={"pause", "stop"})
    slowest = 0.0
    for _ in range(200):
        started = time.perf_counter()
        monitor.step(loss=1.0)
        slowest = max(slowest, time.perf_counter() - started)
    monitor.close(0.5)
    assert slowest < 0.25  # the first one imports; a connection's time-out is 3 s
    warnings = [r.getMessage() for r in caplog.records if r.name == "streamd.client" and r.levelno >= logging.WARNING]
    assert len(warnings) == 1, warnings
    assert f"cannot send to Kafka at 127.0.0.1:{port}" in warnings[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"allow": {"explode"}}, "explode"),
        ({"allow": "pause"}, "allow must be some of"),
        ({"tensors_every": 0}, "tensors_every"),
        ({"checkpoint_every": 5}, "folder"),
        ({"bootstrap_servers": "a:b:c"}, "host:port"),
        ({"run": ""}, "1 to 200"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingMonitor(**{"run": "r", **arguments})
