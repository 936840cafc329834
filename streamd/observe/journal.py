"""Effects as log lines: what an operator should be able to read afterwards."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from streamd.model import Alert, BatchJudged, Command, DeadLetter, Effect, RunJudged, Severity, StreamChanged, Verdict

log = structlog.get_logger("streamd.engine")


def journal(effects: Iterable[Effect], topic: str, partition: int) -> None:
    """Write what was delivered. Findings of severity `info` are for the level `debug`: one in twenty is chance."""
    for effect in effects:
        match effect:
            case Alert():
                write = log.info if effect.status == "resolved" else log.warning
                write(effect.summary, alert=effect.id, status=effect.status, severity=effect.severity.word)
            case Command():
                log.warning(f"{effect.command} asked for {effect.target}", mode=effect.mode, reason=effect.reason)
            case DeadLetter():
                log.warning(
                    "record sent to the dead letters",
                    topic=topic,
                    partition=partition,
                    offset=effect.envelope.offset,
                    reason=effect.reason.value,
                    error=effect.error,
                )
            case StreamChanged():
                log.info(f"stream {effect.what}", stream=effect.stream, detail=effect.detail)
            case BatchJudged():
                verdicts = [outcome for outcome in effect.outcomes if isinstance(outcome, Verdict)]
                for verdict, severity in zip(verdicts, effect.severities, strict=True):
                    if severity is Severity.INFO:
                        log.debug(f"{effect.stream}: {verdict.finding}", detector=verdict.detector)
            case RunJudged():
                for verdict, severity in zip(effect.verdicts, effect.severities, strict=True):
                    if severity is Severity.INFO:
                        log.debug(f"{effect.run}: {verdict.finding}", detector=verdict.detector)
            case _:
                pass
