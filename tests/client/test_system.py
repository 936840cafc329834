"""What the monitor reads of the host and its GPUs, with the libraries' answers made up."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from streamd.client.system import SystemWatch

BUSY = {"GPU-a": 10, "GPU-b": 80}  # by the device's id: NVML's own numbers are others


def a_machine(monkeypatch: pytest.MonkeyPatch, uuids: list[str], current: int) -> Any:
    """A torch that sees these devices, and an NVML that knows them by id."""
    torch, nvml = ModuleType("torch"), ModuleType("pynvml")
    properties = [SimpleNamespace(uuid=uuid, total_memory=1000) for uuid in uuids]
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: len(uuids),
        current_device=lambda: current,
        get_device_properties=lambda i: properties[i],
        memory_allocated=lambda i: 100 + i,
        memory_reserved=lambda i: 200 + i,
    )
    monkeypatch.setattr(torch, "cuda", cuda, raising=False)
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetUtilizationRates": lambda handle: SimpleNamespace(gpu=BUSY[handle]),
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=10 * BUSY[handle]),
    }.items():
        monkeypatch.setattr(nvml, name, answer, raising=False)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    return nvml


def readings() -> dict[str, float]:
    watch = SystemWatch()
    watch.read()
    return {name: value for name, value in watch.latest.items() if name.startswith("gpu")}


def test_a_gpu_is_read_with_torch_and_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    a_machine(monkeypatch, ["b"], current=0)
    assert readings() == {
        "gpu_mem_allocated_bytes": 100.0,
        "gpu_mem_reserved_bytes": 200.0,
        "gpu_mem_total_bytes": 1000.0,
        "gpu_util_percent": 80.0,
        "gpu_mem_used_bytes": 800.0,
    }


def test_of_several_gpus_each_is_read_and_the_current_one_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    a_machine(monkeypatch, ["b", "a"], current=1)
    found = readings()
    assert (found["gpu_util_percent"], found["gpu_mem_used_bytes"], found["gpu_mem_allocated_bytes"]) == (10, 100, 101)
    assert (found["gpu_util_percent/0"], found["gpu_util_percent/1"]) == (80.0, 10.0)


def test_a_driver_that_fails_costs_its_own_readings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = a_machine(monkeypatch, ["a"], current=0)
    monkeypatch.setattr(nvml, "nvmlDeviceGetUtilizationRates", lambda _: 1 // 0)
    assert set(readings()) == {"gpu_mem_allocated_bytes", "gpu_mem_reserved_bytes", "gpu_mem_total_bytes"}
