"""Statistics of gradients and of their updates, taken by hooks with fused reductions. Needs torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.autograd import Variable

log = logging.getLogger("streamd.client")

Statistics = dict[str, dict[str, torch.Tensor]]  # statistic -> parameter -> a number on its device

_UPDATE_ELEMENTS = 8_192  # of a tensor, evenly spread: its update ratio to about a per cent, and no copy of the model
_PIECE_ELEMENTS = 131_072  # 512 KB
_TAIL = 0.05  # of the quantiles that are sent: grad_p05, grad_p95
_TAIL_ELEMENTS = 512  # of a weight and of its gradient: the distance of those quantiles to about 4 %
_TENSORS_MAX = 1_000  # in one message; the daemon's own limit is 10,000
_NAME_CHARACTERS = 256  # the daemon's limit


@dataclass(slots=True)
class Measured:
    """What was measured at one step, as tensors on their devices.

    Attributes:
        norms: of every gradient; their norm is the total.
        names: whose each norm is; None: not reported one by one.
        statistics: of those with a name, where it was looked closer.
    """

    norms: list[torch.Tensor] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    statistics: Statistics = field(default_factory=dict)


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
        self._measured = Measured()
        self._old: list[tuple[torch.Tensor, torch.Tensor]] = []
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

    def take(self) -> Measured:
        """What was measured since the last call."""
        taken, self._measured = self._measured, Measured()
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
        norms, names = self._norms(gradients, 2), [self._names.get(id(p)) for p in with_gradient]
        self._measured.norms, self._measured.names = norms, names
        if self.due and any(names):
            chosen = {name: (p, norm) for name, p, norm in zip(names, with_gradient, norms, strict=True) if name}
            parameters = {name: p for name, (p, _) in chosen.items()}
            self._measured.statistics |= self._look_closer(parameters, [norm for _, norm in chosen.values()])
            self._measured.statistics |= self._distributions(parameters)

    def _look_closer(self, parameters: Mapping[str, torch.Tensor], norms: list[torch.Tensor]) -> Statistics:
        gradients = [p.grad for p in parameters.values() if p.grad is not None]
        if all(g.device.type == "cpu" and g.dtype == torch.float32 for g in gradients) and self._scaler is None:
            sums, nonzero = map(list, zip(*(_sums_by_piece(g) for g in gradients), strict=True))
        else:
            sums, nonzero = self._norms(gradients, 1), [torch.count_nonzero(g) for g in gradients]
        found = {
            "grad_mean_abs": [total / g.numel() for total, g in zip(sums, gradients, strict=True)],
            "zero_fraction": [1 - n / g.numel() for n, g in zip(nonzero, gradients, strict=True)],
            "nonfinite": [_nonfinite(g, norm) for g, norm in zip(gradients, norms, strict=True)],
        }
        return {what: dict(zip(parameters, values, strict=True)) for what, values in found.items()}

    def _distributions(self, parameters: Mapping[str, torch.Tensor]) -> Statistics:
        """`variance` of each weight, and where its gradient's lowest and highest 5 % begin: of a few elements.

        Of weights of two dimensions and more: a bias may start as zeros, and a normalisation's scale as ones.
        """
        found: Statistics = {"variance": {}, "grad_p05": {}, "grad_p95": {}}
        for name, parameter in parameters.items():
            gradient = parameter.grad
            if parameter.ndim < 2 or not parameter.numel() or gradient is None:
                continue
            found["variance"][name] = _widened(_spread(parameter, _TAIL_ELEMENTS)).var(correction=0)
            dense = gradient if gradient.stride() == parameter.stride() else gradient.contiguous()
            sample = _widened(_spread(dense, _TAIL_ELEMENTS))
            tail = round(_TAIL * (len(sample) - 1)) + 1
            lowest, highest = sample.topk(tail, largest=False).values[-1], sample.topk(tail).values[-1]
            found["grad_p05"][name], found["grad_p95"][name] = self._unscaled([lowest, highest])
        return found

    def _norms(self, gradients: list[torch.Tensor], order: float) -> list[torch.Tensor]:
        kinds = {g.dtype for g in gradients}
        # A half's own norm overflows at 65,504; kinds that are mixed must all fit into the one that is named.
        wide = torch.float64 if torch.float64 in kinds else None if kinds == {torch.float32} else torch.float32
        return self._unscaled(list(torch._foreach_norm(gradients, order, wide)))

    def _unscaled(self, values: list[torch.Tensor]) -> list[torch.Tensor]:
        scale = getattr(self._scaler, "_scale", None)  # on the device; get_scale() would wait for it
        return values if scale is None else [value / scale.to(value.device) for value in values]

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
                ratios = torch._foreach_div(torch._foreach_norm(change), torch._foreach_norm(old))
            names = [self._names[id(p)] for p, _ in taken]
            self._measured.statistics["update_ratio"] = dict(zip(names, ratios, strict=True))
        except Exception:
            self.close()
            log.exception("updates are not measured any more")


def _spread(tensor: torch.Tensor, elements: int = _UPDATE_ELEMENTS) -> torch.Tensor:
    """At most so many elements of a dense tensor, evenly spread through its memory, without a copy."""
    count = tensor.numel()
    stride = -(-count // elements) or 1
    while math.gcd(stride, count) > 1:  # else it falls on the same few columns in every row
        stride += 1
    return tensor.detach().as_strided((-(-count // stride),), (stride,), tensor.storage_offset())


def _widened(sample: torch.Tensor) -> torch.Tensor:
    """Halves as floats: their own variance would be of three digits."""
    return sample.float() if sample.itemsize < 4 else sample


def _sums_by_piece(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ|g| and the number of elements that are not zero, on the CPU: by pieces that stay in the cache, twice as fast as
    the norm of order 1 and a count."""
    sums, nonzero = [], []
    space = torch.empty(min(_PIECE_ELEMENTS, gradient.numel()))
    for piece in gradient.reshape(-1).split(_PIECE_ELEMENTS):  # type: ignore[no-untyped-call]
        part = space[: piece.numel()]
        sums.append(torch.abs(piece, out=part).sum())
        nonzero.append(torch.ne(piece, 0, out=part).sum())
    return torch.stack(sums).sum(dtype=torch.float64), torch.stack(nonzero).sum(dtype=torch.float64)


def _nonfinite(gradient: torch.Tensor, norm: torch.Tensor) -> torch.Tensor:
    """How many elements are NaN or infinite. On the CPU a finite norm says none, without a second look."""
    if gradient.device.type == "cpu" and bool(torch.isfinite(norm)):
        return torch.zeros(())
    return gradient.numel() - torch.isfinite(gradient).sum()
