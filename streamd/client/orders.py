"""The commands of one run: taken at a step, agreed on by all ranks, obeyed, and answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from streamd.client.commands import Done, Gate, Handler, Refused, attempt
from streamd.client.listener import Listener
from streamd.client.ranks import Alone, Ranks
from streamd.model import Command

log = logging.getLogger("streamd.client")

_PAUSE_LOOK_SECONDS = 0.1  # how soon a paused job sees `resume`
_SKIP_MAX = 1_000_000
_OURS = ""  # the id of a command that nobody sent: a pause that has expired


class Orders:
    """Obeys `pause`, `resume`, `skip_batches` and `stop` itself, and the rest through handlers.

    Attributes:
        stopping: the training should end.
        skips: batches that are still to be passed over.
        can_skip: somebody passes them over.

    Args:
        listener, gate: of rank 0, which alone hears and answers; None elsewhere.
        handlers: what to do, by the command's name; they go before the built-in ones. A handler returns a sentence
            for the acknowledgement, or raises Refused.
    """

    def __init__(
        self, listener: Listener | None, gate: Gate | None, ranks: Ranks, handlers: Mapping[str, Handler]
    ) -> None:
        self._listener = listener
        self._gate = gate
        self._ranks = ranks
        built_in = {"pause": self._pause, "resume": self._resume, "stop": self._stop, "skip_batches": self._skip}
        self._handlers: dict[str, Handler] = {**built_in, **handlers}
        self._paused_until_ms: int | None = None
        self.stopping = False
        self.skips = 0
        self.can_skip = False

    def due(self) -> list[Command]:
        """What is to be obeyed now, the same on every rank. Never waits for a command."""
        return self._ranks.exchange(self._admitted(0.0))

    def obey(self, command: Command) -> Done:
        """Run its handler on this rank, and answer when every rank has."""
        every = self._ranks.gather(tuple(self._run(command)))
        done = Done(*every[0])
        for rank, (outcome, detail) in enumerate(every):
            if outcome != "done" and done.outcome == "done":
                done = Done(outcome, f"rank {rank}: {detail}")
        if self._gate is not None and command.id != _OURS:
            self._gate.answer(command, done)
        return done

    def wait_while_paused(self) -> None:
        """Returns at once unless paused; else at `resume`, at `stop`, or when the pause expires."""
        while self._paused_until_ms is not None:
            commands = self._admitted(_PAUSE_LOOK_SECONDS)
            if self._gate is not None and _now_ms() >= self._paused_until_ms:
                commands.append(_expiry(self._paused_until_ms))
            for command in self._ranks.exchange(commands):
                self.obey(command)

    def close(self) -> None:
        """Refuse what will not be obeyed any more."""
        for command in self._ranks.close():
            if self._gate is not None:
                self._gate.answer(command, Done("refused", "the run has ended"))
        if self._listener is not None:
            self._listener.close()

    def abandon(self) -> None:
        """Do not wait for the other ranks any more: this one has failed."""
        self._ranks = Alone(self._ranks.rank)

    def _admitted(self, timeout_seconds: float) -> list[Command]:
        if self._listener is None or self._gate is None:
            return []
        return [c for c in self._listener.take(timeout_seconds) if self._gate.admit(c, _now_ms())]

    def _run(self, command: Command) -> Done:
        handler = self._handlers.get(command.command)
        if handler is None:
            return Done("refused", f"nothing here knows how to {command.command}")
        return attempt(handler, command)

    # --- The built-in handlers that need no framework -----------------------------------------------

    def _pause(self, command: Command) -> str:
        self._paused_until_ms = command.expires_at_ms
        seconds = max(command.expires_at_ms - _now_ms(), 0) / 1000
        return f"paused until resume, or for {seconds:.0f} s"

    def _resume(self, command: Command) -> str:
        was, self._paused_until_ms = self._paused_until_ms, None
        if was is not None and command.id == _OURS:
            log.warning("the pause has expired: the training goes on")
        return "goes on" if was is not None else "it was not paused"

    def _stop(self, _command: Command) -> str:
        self.stopping, self._paused_until_ms = True, None
        return "stops after this step"

    def _skip(self, command: Command) -> str:
        count = command.args.get("count")
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _SKIP_MAX:
            raise Refused(f"`count` must be 1 to {_SKIP_MAX} batches, is {count!r}")
        if not self.can_skip:
            raise Refused("nothing here skips batches: loop over monitor.batches(loader)")
        self.skips += count
        return f"the next {count} batches are passed over"


def _expiry(at_ms: int) -> Command:
    return Command(_OURS, "resume", "run", "", {}, "enforce", "", "the pause has expired", at_ms, at_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
