"""What the host and its GPUs are doing, read now and then on a thread of its own so that no step waits for it."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

EVERY_SECONDS = 2.0  # memory that grows is seen long before it is full; a reading costs about a millisecond


class SystemWatch:
    """Keeps the latest readings; what cannot be read is left out.

    cpu_percent, cpu_mem_percent (of the host), process_rss_bytes: with psutil. gpu_mem_allocated_bytes,
    gpu_mem_reserved_bytes, gpu_mem_total_bytes: of torch's current CUDA device. gpu_util_percent,
    gpu_mem_used_bytes (by all processes): with nvidia-ml-py, of the same device; and gpu_util_percent/0 and on of
    every device that the process sees, where these are several.
    """

    def __init__(self, every_seconds: float = EVERY_SECONDS) -> None:
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._sources = [source for source in (_host(), _cuda(), _nvml()) if source is not None]
        self.latest: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="streamd-system", daemon=True)

    def start(self) -> None:
        self.read()
        self._thread.start()

    def read(self) -> None:
        """Read once."""
        found: dict[str, float] = {}
        for source in list(self._sources):
            try:
                found |= source()
            except Exception:
                self._sources.remove(source)  # a driver that fails once fails each time
        self.latest = found

    def close(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self.read()


def _host() -> Callable[[], dict[str, float]] | None:
    try:
        import psutil
    except ImportError:
        return None
    process = psutil.Process()
    psutil.cpu_percent(None)  # the first call has nothing to compare with

    def read() -> dict[str, float]:
        return {
            "cpu_percent": psutil.cpu_percent(None),
            "cpu_mem_percent": psutil.virtual_memory().percent,
            "process_rss_bytes": float(process.memory_info().rss),
        }

    return read


def _cuda() -> Callable[[], dict[str, float]] | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    device = torch.cuda.current_device()

    def read() -> dict[str, float]:
        return {
            "gpu_mem_allocated_bytes": float(torch.cuda.memory_allocated(device)),
            "gpu_mem_reserved_bytes": float(torch.cuda.memory_reserved(device)),
            "gpu_mem_total_bytes": float(torch.cuda.get_device_properties(device).total_memory),
        }

    return read


def _nvml() -> Callable[[], dict[str, float]] | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        # By its id: CUDA_VISIBLE_DEVICES renumbers CUDA's devices, not NVML's.
        uuids = [torch.cuda.get_device_properties(i).uuid for i in range(torch.cuda.device_count())]
        handles: list[Any] = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in uuids]
        own = torch.cuda.current_device()

        def read() -> dict[str, float]:
            busy = [float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) for handle in handles]
            every = {f"gpu_util_percent/{i}": percent for i, percent in enumerate(busy)} if len(busy) > 1 else {}
            used = float(pynvml.nvmlDeviceGetMemoryInfo(handles[own]).used)
            return {"gpu_util_percent": busy[own], "gpu_mem_used_bytes": used, **every}

        return read
    return None
