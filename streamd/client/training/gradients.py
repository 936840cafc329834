"""Statistics of gradients and of their updates, taken by hooks with fused reductions. Needs torch."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.autograd import Variable

log = logging.getLogger("streamd.client")

_UPDATE_ELEMENTS = 65_536  # of a tensor, evenly spread: its update ratio to half a per cent, and no copy of the model
_PIECE_ELEMENTS = 65_536  # 256 KB
_TENSORS_MAX = 1_000  # in one message; the daemon's own limit is 10,000
_NAME_CHARACTERS = 256  # the daemon's limit

Statistics = dict[str, list[torch.Tensor]]


class Gradients:
    """Measures at the end of each backward pass: after DistributedDataParallel's averaging, before any clipping.

    Attributes:
        due: whether the next backward pass and step are measured tensor by tensor, or their total norm only.

    Args:
        model: its parameters that require a gradient.
        optimizer: for the ratio ‖Δw‖ / ‖w‖ of each update; None: no ratios.
        patterns: names of the parameters to report one by one (`encoder.*`); the total norm is of all.
        scaler: a torch.amp.GradScaler, whose scale is taken out of the gradients.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Any, patterns: Sequence[str], scaler: Any = None) -> None:
        named = [(name.removeprefix("module."), p) for name, p in model.named_parameters() if p.requires_grad]
        chosen = [pair for pair in named if any(fnmatchcase(pair[0], pattern) for pattern in patterns)]
        self._names = {id(p): name[:_NAME_CHARACTERS] for name, p in chosen[:_TENSORS_MAX]}
        self._parameters = [p for _, p in named]
        self._scaler = scaler
        self._waiting = False
        self.due = True
        self._total: list[torch.Tensor] = []
        self._names_now: list[str] = []
        self._statistics: Statistics = {}
        self._old: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._ratios: tuple[list[str], list[torch.Tensor]] = ([], [])
        self._handles: list[Any] = []
        for parameter in self._parameters:
            handle = parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]
            self._handles.append(handle)
        optimizer = getattr(optimizer, "optimizer", optimizer)  # accelerate's wrapper
        if isinstance(optimizer, torch.optim.Optimizer):
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))
            self._handles.append(optimizer.register_step_post_hook(self._after_update))

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> tuple[list[torch.Tensor], list[str], Statistics, tuple[list[str], list[torch.Tensor]]]:
        """What was measured since the last call, as tensors on their devices.

        Returns:
            The norms of all gradients (whose norm is the total); names; per-tensor statistics in the order of the
            names; names and ratios of the updates.
        """
        taken = self._total, self._names_now, self._statistics, self._ratios
        self._total, self._names_now, self._statistics, self._ratios = [], [], {}, ([], [])
        return taken

    # --- Hooks: an exception in one would end the backward pass ------------------------------------

    def _arrived(self, _parameter: torch.Tensor) -> None:
        if self._waiting:
            return
        self._waiting = True
        # A callback queued from a callback runs after all that were queued before it: after DDP has averaged.
        engine = Variable._execution_engine
        engine.queue_callback(lambda: engine.queue_callback(self._measure_safely))

    def _measure_safely(self) -> None:
        self._waiting = False
        try:
            with torch.no_grad():
                self._measure()
        except Exception:
            self.close()
            log.exception("gradients are not measured any more")

    def _measure(self) -> None:
        with_gradient = [p for p in self._parameters if p.grad is not None and p.grad.layout is torch.strided]
        gradients = [p.grad for p in with_gradient if p.grad is not None]
        if not gradients:
            return
        norms = self._norms(gradients, 2)
        self._total = norms
        names = [self._names.get(id(p)) for p in with_gradient]
        self._names_now = [name for name in names if name is not None]
        chosen = [name is not None for name in names]
        self._statistics = {"grad_norm": list(itertools.compress(norms, chosen))}
        if self.due:
            self._look_closer(list(itertools.compress(gradients, chosen)))

    def _look_closer(self, gradients: list[torch.Tensor]) -> None:
        if not gradients:
            return
        if all(g.device.type == "cpu" and g.dtype == torch.float32 for g in gradients) and self._scaler is None:
            sums, nonzero = map(list, zip(*(_sums_by_piece(g) for g in gradients), strict=True))
        else:
            sums, nonzero = self._norms(gradients, 1), [torch.count_nonzero(g) for g in gradients]
        self._statistics["grad_mean_abs"] = [total / g.numel() for total, g in zip(sums, gradients, strict=True)]
        self._statistics["zero_fraction"] = [1 - n / g.numel() for n, g in zip(nonzero, gradients, strict=True)]
        self._statistics["nonfinite"] = [
            _nonfinite(g, norm) for g, norm in zip(gradients, self._statistics["grad_norm"], strict=True)
        ]

    def _norms(self, gradients: list[torch.Tensor], order: float) -> list[torch.Tensor]:
        kinds = {g.dtype for g in gradients}
        # A half's own norm overflows at 65,504; kinds that are mixed must all fit into the one that is named.
        wide = torch.float64 if torch.float64 in kinds else None if kinds == {torch.float32} else torch.float32
        norms = list(torch._foreach_norm(gradients, order, wide))
        scale = getattr(self._scaler, "_scale", None)  # on the device; get_scale() would wait for it
        return norms if scale is None else [norm / scale.to(norm.device) for norm in norms]

    def _before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._old = []
        if not self.due:
            return
        try:
            parameters = [p for group in optimizer.param_groups for p in group["params"] if id(p) in self._names]
            with torch.no_grad():
                self._old = [(p, _spread(p).clone()) for p in parameters if p.grad is not None and p.numel()]
        except Exception:
            self.close()
            log.exception("updates are not measured any more")

    def _after_update(self, _optimizer: torch.optim.Optimizer, *_: Any) -> None:
        taken, self._old = self._old, []
        if not taken:
            return
        try:
            old = [before for _, before in taken]
            with torch.no_grad():
                change = torch._foreach_sub([_spread(p) for p, _ in taken], old)
                ratios = [d / w for d, w in zip(torch._foreach_norm(change), torch._foreach_norm(old), strict=True)]
            self._ratios = [self._names[id(p)] for p, _ in taken], ratios
        except Exception:
            self.close()
            log.exception("updates are not measured any more")


def _spread(parameter: torch.Tensor) -> torch.Tensor:
    """At most so many elements of a dense parameter, evenly spread through its memory, without a copy."""
    count = parameter.numel()
    stride = -(-count // _UPDATE_ELEMENTS) or 1
    return parameter.detach().as_strided((-(-count // stride),), (stride,), parameter.storage_offset())


def _sums_by_piece(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ|g| and the number of elements that are not zero, on the CPU: by pieces that stay in the cache, twice as fast as
    the norm of order 1 and a count."""
    total, nonzero = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    space = torch.empty(min(_PIECE_ELEMENTS, gradient.numel()))
    for piece in gradient.reshape(-1).split(_PIECE_ELEMENTS):  # type: ignore[no-untyped-call]
        part = space[: piece.numel()]
        total += torch.abs(piece, out=part).sum()
        nonzero += torch.ne(piece, 0, out=part).sum()
    return total, nonzero


def _nonfinite(gradient: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """How many elements are NaN or infinite. On the CPU a finite norm says none, without a second look."""
    if gradient.device.type == "cpu" and bool(torch.isfinite(norm)):
        return torch.zeros(())
    return gradient.numel() - torch.isfinite(gradient).sum()
