"""Commands on their way to a job: read from the topic, and judged before anything obeys them. No I/O, no clock."""

from __future__ import annotations

import datetime
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import orjson

from streamd.codec.encode import Outcome
from streamd.model import Command

log = logging.getLogger("streamd.client")

NAMES = frozenset({"checkpoint", "pause", "resume", "reduce_lr", "skip_batches", "stop", "rollback"})
_REMEMBERED = 10_000  # ids of commands that were answered; a daemon sends a few an hour

Handler = Callable[[Command], str | None]
Acknowledge = Callable[[Command, Outcome, str], object]


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure
    """A handler will not obey, and says why in one sentence."""


class Done(NamedTuple):
    """What became of a command."""

    outcome: Outcome
    detail: str


def attempt(handler: Handler, command: Command) -> Done:
    """Run the handler: it returns a sentence for the answer, raises Refused, or fails."""
    try:
        return Done("done", handler(command) or "")
    except Refused as refusal:
        return Done("refused", str(refusal))
    except Exception as error:
        log.exception("%s: %s failed", command.target, command.command)
        return Done("failed", f"{type(error).__name__}: {error}")


def read_command(value: bytes | None) -> Command | None:
    """A record of `streamd.control`; None for what is no command: another's bad record is not the job's concern."""
    try:
        document = orjson.loads(value or b"")
        ((kind, target),) = document["target"].items()
        if kind not in ("run", "stream") or not isinstance(document.get("args"), dict):
            return None
        return Command(
            id=_text(document["id"]),
            command=_text(document["command"]),
            target_kind=kind,
            target=_text(target),
            args=document["args"],
            # Whatever is not plainly to be obeyed is not obeyed.
            mode="enforce" if document.get("mode") == "enforce" else "shadow",
            alert_id=str(document.get("alert_id") or ""),
            reason=str(document.get("reason") or ""),
            issued_at_ms=_milliseconds(document["issued_at"]),
            expires_at_ms=_milliseconds(document["expires_at"]),
            author=document.get("author"),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("not a text")
    return value


def _milliseconds(value: Any) -> int:
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return round(moment.timestamp() * 1000)


def reduction(args: Mapping[str, Any]) -> tuple[float, float]:
    """`factor` and `min_lr` of a `reduce_lr`. Raises Refused for what reduces nothing."""
    factor, min_lr = args.get("factor", 0.5), args.get("min_lr", 0.0)
    if not _is_number(factor) or not 0 < factor < 1:
        raise Refused(f"`factor` must be between 0 and 1, is {factor!r}")
    if not _is_number(min_lr) or min_lr < 0:
        raise Refused(f"`min_lr` must be a number from 0 on, is {min_lr!r}")
    return float(factor), float(min_lr)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class Gate:
    """Lets through the commands that are to be obeyed, once each, and answers the others.

    Args:
        is_ours: whether a command is to us at all.
        allow: the commands that this job opted in to.
        acknowledge: sends the answer.
    """

    def __init__(self, is_ours: Callable[[Command], bool], allow: Collection[str], acknowledge: Acknowledge) -> None:
        self._is_ours = is_ours
        self._allow = frozenset(allow)
        self._acknowledge = acknowledge
        self._answers: OrderedDict[str, Done | None] = OrderedDict()  # None: being obeyed

    def admit(self, command: Command, now_ms: int) -> bool:
        """Whether to obey it. Everything else is logged, and answered where an answer is awaited."""
        if not self._is_ours(command):
            return False
        if command.id in self._answers:
            answer = self._answers[command.id]
            if answer is not None:  # it was sent again: the answer may have been lost
                self._acknowledge(command, answer.outcome, answer.detail)
            return False
        if command.mode != "enforce":
            log.warning("%s: %s (shadow, not obeyed): %s", command.target, command.command, command.reason)
            self._remember(command.id, None)
            return False
        if command.command not in NAMES and command.command not in self._allow:
            self.answer(command, Done("refused", f"{command.command[:100]!r} is unknown"))
        elif command.command not in self._allow:
            allowed = ", ".join(sorted(self._allow)) or "none"
            self.answer(command, Done("refused", f"{command.command} is not allowed here; allowed: {allowed}"))
        elif command.expires_at_ms <= now_ms:
            late = (now_ms - command.expires_at_ms) / 1000
            self.answer(command, Done("expired", f"it had expired {late:.1f} s before it was read"))
        else:
            self._remember(command.id, None)
            return True
        return False

    def answer(self, command: Command, done: Done) -> None:
        """Tell the daemon, and the log, what became of it."""
        self._remember(command.id, done)
        level = logging.INFO if done.outcome == "done" else logging.WARNING
        log.log(level, "%s: %s %s: %s", command.target, command.command, done.outcome, done.detail)
        self._acknowledge(command, done.outcome, done.detail)

    def _remember(self, command_id: str, done: Done | None) -> None:
        self._answers[command_id] = done
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
