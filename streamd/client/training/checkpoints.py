"""Checkpoints that a command can go back to: whole or not there at all, and the last few of them. Needs torch."""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from streamd.client.commands import Refused

VERSION = 1
_NAME = re.compile(r"step-(\d{12})(-nonfinite)?\.pt")


class Stateful(Protocol):
    """What a model, an optimizer and a scheduler have in common."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Saved(NamedTuple):
    """A checkpoint on disk. `finite`: its weights are all numbers, so one may go back to it."""

    step: int
    finite: bool
    path: Path


class Checkpoints:
    """A folder of checkpoints, `step-000000001200.pt`.

    One with weights that are not finite is kept for people to look at, as `…-nonfinite.pt`, and only the newest of
    them: it never pushes out one that can be gone back to.

    Args:
        folder: made where it is missing. One run alone may write to it.
        keep: how many that can be gone back to stay.
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, is {keep}")
        self.folder = Path(folder)
        self._keep = keep

    def saved(self) -> list[Saved]:
        """What is there, oldest step first."""
        found = [(path, _NAME.fullmatch(path.name)) for path in self.folder.glob("step-*.pt")]
        return sorted(Saved(int(m[1]), m[2] is None, path) for path, m in found if m is not None)

    def save(self, step: int, parts: Mapping[str, Stateful], extra: Mapping[str, Any]) -> Saved:
        """Write one; it appears under its name only when all of it is on disk.

        Raises:
            OSError: it could not be written; what was there is untouched.
        """
        state = {name: part.state_dict() for name, part in parts.items()}
        finite = _is_finite(state.get("model", {}))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:012d}{'' if finite else '-nonfinite'}.pt"
        handle, temporary = tempfile.mkstemp(prefix=".step-", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save({"version": VERSION, "step": step, "parts": state, **extra}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(self.folder)
        self._tidy(step)
        return Saved(step, finite, path)

    def before(self, step: int | None) -> Saved:
        """The last one that can be gone back to, at or before `step`; None: the last of all.

        Raises:
            Refused: there is none.
        """
        fitting = [saved for saved in self.saved() if saved.finite and (step is None or saved.step <= step)]
        if not fitting:
            raise Refused(f"{self.folder} has no checkpoint with finite weights" + _until(step))
        return fitting[-1]

    def load(self, saved: Saved) -> dict[str, Any]:
        """Its content, on the CPU; tensors and plain values alone, never code.

        Raises:
            Refused: it is of another version.
            Exception: whatever torch raises for a file that is damaged.
        """
        content: dict[str, Any] = torch.load(saved.path, map_location="cpu", weights_only=True)
        if content.get("version") != VERSION:
            raise Refused(f"{saved.path} is of version {content.get('version')!r}, this release reads {VERSION}")
        return content

    def _tidy(self, current: int) -> None:
        saved = self.saved()
        # After a rollback those of later steps belong to what was abandoned; they are the first to go.
        useful = sorted((s for s in saved if s.finite), key=lambda s: (s.step <= current, s.step))
        useless = [s for s in saved if not s.finite]
        for old in useful[: -self._keep] + useless[:-1]:
            old.path.unlink(missing_ok=True)


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process, as tensors and plain values."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        kind, keys, position, has_gauss, cached = numpy.random.get_state()
        state["numpy"] = [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)]
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set every random generator back."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        kind, keys, *rest = state["numpy"]
        numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), *rest))


def _is_finite(model: Mapping[str, Any]) -> bool:
    tensors = [value for value in model.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _until(step: int | None) -> str:
    return "" if step is None else f" at or before step {step}"
