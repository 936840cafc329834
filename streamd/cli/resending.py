"""The work of `streamd dlq replay`: which dead letters go back, to where, and how far it got.

The dead letters are read twice: once to count them and to fix where they end, once to send them. What is sent back and
fails again at once becomes a dead letter behind that end, so a replay never meets its own work.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import typer

from streamd.cli.connection import fail
from streamd.cli.exit_codes import ExitCode
from streamd.cli.letters import by_reason
from streamd.cli.pace import bar, paced
from streamd.cli.text import counted
from streamd.config import Config
from streamd.dead_letters import Letter
from streamd.errors import TransientError
from streamd.model import Envelope
from streamd.transport.base import RecordTooLargeError
from streamd.transport.kafka_admin import list_topics
from streamd.transport.kafka_resend import Resender

_GROUP_RECORDS = 500
_GROUP_BYTES = 8_000_000
_TURN_SECONDS = 0.1  # of a paced replay: what is due within it goes together

Found = Callable[[], Iterator[tuple[Envelope, Letter | None]]]


@dataclass
class Plan:
    """What to send.

    Attributes:
        found: reads the dead-letter topic anew each time.
        to: another topic than the original's.
        again: also those that came back from an earlier replay.
        after: per partition of the dead-letter topic, the offset up to which all was sent before.
    """

    found: Found
    to: str | None = None
    again: bool = False
    after: Mapping[int, int] = field(default_factory=dict)

    ends: dict[int, int] = field(default_factory=dict, init=False)
    targets: Counter[str] = field(default_factory=Counter, init=False)
    reasons: Counter[str] = field(default_factory=Counter, init=False)
    came_back: int = field(default=0, init=False)
    strangers: int = field(default=0, init=False)

    def survey(self) -> int:
        """Count, and fix the end; how many will be sent."""
        for _, letter in self._chosen(self._watched(self.found())):
            self.targets[self.to or letter.original.topic] += 1
            self.reasons[letter.reason] += 1
        return self.targets.total()

    def letters(self) -> Iterator[tuple[Envelope, Letter]]:
        """What is to be sent, no record twice; after `survey`."""
        return self._chosen(
            (record, letter) for record, letter in self.found() if record.offset <= self.ends.get(record.partition, -1)
        )

    def _watched(self, found: Iterable[tuple[Envelope, Letter | None]]) -> Iterator[tuple[Envelope, Letter | None]]:
        for record, letter in found:
            self.ends[record.partition] = max(record.offset, self.ends.get(record.partition, -1))
            self.strangers += letter is None
            self.came_back += letter is not None and letter.replayed > 0 and not self.again
            yield record, letter

    def _chosen(self, found: Iterable[tuple[Envelope, Letter | None]]) -> Iterator[tuple[Envelope, Letter]]:
        seen: set[tuple[str, int, int, int]] = set()
        for record, letter in found:
            if letter is None or (letter.replayed and not self.again):
                continue
            if record.offset <= self.after.get(record.partition, -1):
                continue
            if letter.identity not in seen:  # after a crash one record may have two dead letters
                seen.add(letter.identity)
                yield record, letter


def run(config: Config, plan: Plan, *, named: str | None, dry_run: bool, seconds_each: float) -> None:
    """Carry it out and say what became of it; `named` is a topic that was asked for by name."""
    total = plan.survey()
    if total:
        _check_targets(config, plan, named)
    if dry_run or not total:
        typer.echo(_sentence("would go back" if dry_run else "sent back", total, plan) + _left(plan))
        return
    started = time.monotonic()
    resender, done = Resender(config.kafka), dict(plan.after)
    size = _GROUP_RECORDS if not seconds_each else max(1, min(_GROUP_RECORDS, int(_TURN_SECONDS / seconds_each)))
    expected = 0
    failure: tuple[ExitCode, str] | None = None
    group: list[tuple[Envelope, Letter]] = []
    try:
        with bar(total, "records") as advance:
            for group in paced(_groups(plan.letters(), size), seconds_each * size):
                expected += len(group)
                records = [(letter.to_send(plan.to), letter.original.partition) for _, letter in group]
                resender.send(records, keep_partition=plan.to is None)
                _note(done, group)
                advance(resender.acknowledged)
    except KeyboardInterrupt:
        failure = (ExitCode.INTERRUPTED, "interrupted")
    except TransientError as error:
        failure = (ExitCode.UNAVAILABLE, str(error))
    except RecordTooLargeError as error:
        failure = (ExitCode.DATA, str(error))
    finally:
        resender.close()
    if failure is None:
        seconds = time.monotonic() - started
        typer.echo(f"{_sentence('sent back', resender.acknowledged, plan)} in {seconds:.1f} s{_left(plan)}")
        return
    if resender.acknowledged == expected:  # what was on its way has arrived while the producer was closed
        _note(done, group)
    code, words = failure
    fail(code, f"{words}: {resender.acknowledged:,} of {counted(total, 'record')} sent back{_go_on(done)}")


def parse_after(text: str | None) -> dict[int, int]:
    """`0:41,1:7` -> {0: 41, 1: 7}. Raises typer.BadParameter."""
    if text is None:
        return {}
    if not re.fullmatch(r"\d+:\d+(,\d+:\d+)*", text):
        raise typer.BadParameter(f"--after is partition:offset with commas, such as 0:41,1:7, not {text!r}")
    return {int(pair.partition(":")[0]): int(pair.partition(":")[2]) for pair in text.split(",")}


def _check_targets(config: Config, plan: Plan, named: str | None) -> None:
    """Only to topics that streamd reads, or that were named: what a header says is anybody's word."""
    ours = {config.topics.features, config.topics.telemetry, named, plan.to}
    strange = sorted(plan.targets.keys() - ours)
    if strange:
        fail(
            ExitCode.USAGE,
            f"some came from {', '.join(strange)}, which this configuration does not read: "
            f"name it with --topic, or send them elsewhere with --to",
        )
    missing = sorted(plan.targets.keys() - set(list_topics(config.kafka)))
    if missing:
        fail(ExitCode.CONFIG, f"there is no topic {', '.join(missing)}: nothing was sent")


def _groups(letters: Iterator[tuple[Envelope, Letter]], size: int) -> Iterator[list[tuple[Envelope, Letter]]]:
    """So many together, or fewer when they are large: a group is in memory whole."""
    group: list[tuple[Envelope, Letter]] = []
    group_bytes = 0
    for record, letter in letters:
        group.append((record, letter))
        group_bytes += len(record.key or b"") + len(record.value or b"")
        if len(group) >= size or group_bytes >= _GROUP_BYTES:
            yield group
            group, group_bytes = [], 0
    if group:
        yield group


def _note(done: dict[int, int], group: Iterable[tuple[Envelope, Letter]]) -> None:
    for record, _ in group:
        done[record.partition] = max(record.offset, done.get(record.partition, -1))


def _sentence(verb: str, number: int, plan: Plan) -> str:
    if number == 0:
        return f"nothing {verb}: no dead letter matches"
    targets = ", ".join(sorted(plan.targets))
    return f"{counted(number, 'record')} {verb} to {targets} ({by_reason(plan.reasons)})"


def _left(plan: Plan) -> str:
    """What was not sent, and why."""
    parts = []
    if plan.came_back:
        parts.append(f"{plan.came_back:,} came back from an earlier replay and are left (--again sends them)")
    if plan.strangers:
        parts.append(f"{counted(plan.strangers, 'record')} that streamd did not write left out")
    return "".join(f"; {part}" for part in parts)


def _go_on(done: Mapping[int, int]) -> str:
    places = ",".join(f"{partition}:{offset}" for partition, offset in sorted(done.items()))
    return f"; go on with the same filters and --after {places}" if places else ""
