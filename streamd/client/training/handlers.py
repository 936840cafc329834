"""What a training does when it is told to: the built-in handlers of commands. Needs torch.

Each takes the command's arguments and returns a sentence for the acknowledgement. All ranks run the same handler at
the same step; a handler that needs every rank's consent asks for it before it changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamd.client.commands import Refused, reduction
from streamd.client.ranks import Ranks
from streamd.client.training.checkpoints import Checkpoints, Saved, Stateful, random_state, restore_random_state
from streamd.client.training.learning_rate import scale


class Trainee:
    """Model, optimizer and schedulers, and what commands do to them.

    Args:
        parts: what a checkpoint holds; `model`, `optimizer` and `scheduler` where they were given.
        checkpoints: None where no folder was given.
    """

    def __init__(
        self, parts: Mapping[str, Stateful], schedulers: Sequence[Any], checkpoints: Checkpoints | None, ranks: Ranks
    ) -> None:
        self._parts = dict(parts)
        self._optimizer: Any = parts.get("optimizer")
        self._schedulers = list(schedulers)
        self._checkpoints = checkpoints
        self._ranks = ranks
        self._lr_factors = [1.0] * len(getattr(self._optimizer, "param_groups", ()))
        self.step = 0

    def checkpoint(self, _args: Mapping[str, Any]) -> str:
        """Save everything under the current step; rank 0 writes."""
        folder = self._folder()
        states = self._ranks.gather(random_state())
        if self._ranks.rank != 0:
            return ""
        saved = folder.save(self.step, self._parts, {"random": states, "lr_factors": list(self._lr_factors)})
        return f"{saved.path}" + ("" if saved.finite else ", whose weights are not finite")

    def rollback(self, args: Mapping[str, Any]) -> str:
        """Go back to the last checkpoint at or before `step`, or to the last of all."""
        step = args.get("step")
        if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
            raise Refused(f"`step` must be a step, is {step!r}")
        saved, content, problem = self._read(step)
        # A rank that goes back alone would train another model than the rest: all can, or none does.
        found = self._ranks.gather((saved and saved.path.name, problem))
        for rank, (_, what) in enumerate(found):
            if what is not None:
                raise Refused(what if self._ranks.size == 1 else f"rank {rank}: {what}")
        if len({name for name, _ in found}) > 1:
            raise Refused("the ranks do not see the same checkpoints: the folder must be shared")
        assert saved is not None
        assert content is not None
        for name, part in self._parts.items():
            part.load_state_dict(content["parts"][name])
        restore_random_state(content["random"][self._ranks.rank])
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=True)
            # What was commanded since the checkpoint still holds: the old rate is where the trouble began.
            then = content["lr_factors"]
            scale(self._optimizer, self._schedulers, [n / t for n, t in zip(self._lr_factors, then, strict=True)])
        was, self.step = self.step, int(content["step"])
        return f"back from step {was}, by {saved.path}"

    def _read(self, step: int | None) -> tuple[Saved | None, dict[str, Any] | None, str | None]:
        try:
            folder = self._folder()
            saved = folder.before(step)
            content = folder.load(saved)
            if missing := set(self._parts) - set(content["parts"]):
                return None, None, f"{saved.path} has no {', '.join(sorted(missing))}"
            if len(content["random"]) != self._ranks.size:
                return None, None, f"{saved.path} is of {len(content['random'])} ranks, here are {self._ranks.size}"
        except Exception as error:
            return None, None, str(error) or repr(error)
        return saved, content, None

    def reduce_lr(self, args: Mapping[str, Any]) -> str:
        """Multiply every group's rate by `factor`, not under `min_lr`."""
        if self._optimizer is None:
            raise Refused("the monitor was given no optimizer")
        factor, min_lr = reduction(args)
        before = [float(group["lr"]) for group in self._optimizer.param_groups]
        applied = scale(self._optimizer, self._schedulers, [factor] * len(before), min_lr)
        self._lr_factors = [old * ratio for old, ratio in zip(self._lr_factors, applied, strict=True)]
        after = [float(group["lr"]) for group in self._optimizer.param_groups]
        return "; ".join(f"{old:g} → {new:g}" for old, new in dict.fromkeys(zip(before, after, strict=True)))

    def _folder(self) -> Checkpoints:
        if self._checkpoints is None:
            raise Refused("the monitor was given no folder: TrainingMonitor(…, checkpoints='folder')")
        if not self._parts:
            raise Refused("the monitor was given nothing to save: TrainingMonitor(…, model=model)")
        return self._checkpoints
