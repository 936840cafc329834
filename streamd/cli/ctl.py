"""`streamd ctl`: a person's commands to a training run, with their author; and what is normal for a stream."""

from __future__ import annotations

import getpass
import re
import time
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import typer

from streamd.cli import accepting
from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, fail, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode
from streamd.cli.listening import heard, listening
from streamd.client.arguments import check_stream
from streamd.client.sender import Sender
from streamd.codec.decode import decode
from streamd.codec.limits import Limits
from streamd.config import Config
from streamd.errors import InvalidRecord
from streamd.model import Acknowledgement, Command, JsonValue
from streamd.sinks.records import command_record
from streamd.transport.kafka_auth import client_options

_SEND_SECONDS = 15.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Action = Literal["checkpoint", "pause", "resume", "reduce-lr", "rollback", "skip-batches", "stop", "accept", "undo"]
_OWN: dict[str, tuple[str, ...]] = {  # the options that say something about one action alone
    "reduce-lr": ("factor", "min_lr"),
    "rollback": ("step",),
    "skip-batches": ("count",),
}


def command(
    action: Annotated[
        Action, typer.Argument(metavar="ACTION", help=f"What to do: {', '.join(get_args(Action))}.", show_choices=False)
    ],
    stream: Annotated[str | None, typer.Argument(help="accept, undo: the stream's name.")] = None,
    run: Annotated[str | None, typer.Option(help="The run's name, for all other actions.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="accept: only this feature; may be repeated. Else all.")
    ] = None,
    factor: Annotated[float | None, typer.Option(help="reduce-lr: times what; 0.5 unless given.")] = None,
    min_lr: Annotated[float | None, typer.Option(min=0.0, help="reduce-lr: not under this.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="rollback: the last good step; else the last saved.")] = None,
    count: Annotated[int | None, typer.Option(min=1, help="skip-batches: how many.")] = None,
    reason: Annotated[
        str | None, typer.Option(help="Why; the job logs it, and with accept the alerts that end say it.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Who; else the name of the user.")] = None,
    expires: Annotated[
        str | None, typer.Option(help="For how long it may be obeyed, and a pause lasts: 90s, 10m, 2h. Else 10m.")
    ] = None,
    mode: Annotated[
        Literal["enforce", "shadow"] | None,
        typer.Option(help="shadow: the job logs it and does nothing. Else enforce."),
    ] = None,
    wait: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the answer; 0: do not wait.")] = 30.0,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Tell a training run what to do, and show what it answers; or say what is normal.

    `accept STREAM` makes what a stream sends now its normal: its alerts end, and
    its next rows become the reference. `undo STREAM` puts the reference before
    that back in force.
    """
    own = {"factor": factor, "min_lr": min_lr, "step": step, "count": count}
    if action == "accept" or action == "undo":
        accepting.options_that_say_nothing(action, {"run": run, "expires": expires, "mode": mode, **own})
        if action == "undo":
            accepting.options_that_say_nothing(action, {"column": column, "reason": reason})
        name = _named(stream, "STREAM")
        _say(action, name, column or [], author, reason, wait, load_config(bootstrap_servers, config))
        return
    accepting.options_that_say_nothing(action, {"column": column})
    if stream is not None:
        raise typer.BadParameter(f"{action} is for a training run: --run {stream}")
    now_ms = time.time_ns() // 1_000_000
    order = Command(
        id=uuid.uuid4().hex,
        command=action.replace("-", "_"),
        target_kind="run",
        target=_named(run, "--run"),
        args=arguments(action, own),
        mode=mode or "enforce",
        alert_id="",
        reason=reason or "by hand",
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + int(1000 * _seconds(expires or "10m")),
        author=author or getpass.getuser(),
    )
    _order(action, order, load_config(bootstrap_servers, config), wait)


def _order(action: str, order: Command, settings: Config, wait: float) -> None:
    """Publish the command, and say what the job answers within `wait` seconds; ends with an error unless it obeys."""
    quiet_client()
    if order.mode == "shadow" or wait == 0:
        _publish(order, settings)
        typer.echo(f"{order.target}: {action} sent" + (" (shadow)" if order.mode == "shadow" else ""))
        return
    with listening(settings, settings.topics.telemetry) as answers:  # from before it is sent: no answer is missed
        _publish(order, settings)
        answer = _await(answers, order.id, wait)
    if answer is None:
        fail(ExitCode.UNAVAILABLE, f"{order.target}: {action} was sent, and nobody answered within {wait:g} s")
    sentence = f"{order.target}: {action} {answer.outcome}" + (f": {answer.detail}" if answer.detail else "")
    if answer.outcome != "done":
        fail(ExitCode.DATA, sentence)
    typer.echo(sentence)


def arguments(action: str, given: Mapping[str, float | None]) -> dict[str, JsonValue]:
    """The command's `args`. BadParameter for an option of another action, and for what cannot be meant."""
    own = _OWN.get(action, ())
    args: dict[str, JsonValue] = {name: value for name, value in given.items() if value is not None}
    if foreign := [name for name in args if name not in own]:
        raise typer.BadParameter(f"--{foreign[0].replace('_', '-')} says nothing to {action}")
    if action == "skip-batches" and not args:
        raise typer.BadParameter("skip-batches needs --count")
    if action == "reduce-lr":
        args = {"factor": args.get("factor", 0.5), "min_lr": args.get("min_lr", 0.0)}
        if not 0 < float(0.5 if given["factor"] is None else given["factor"]) < 1:
            raise typer.BadParameter(f"--factor must be between 0 and 1, is {given['factor']:g}")
    return args or ({"to": "previous"} if action == "rollback" else {})


def _publish(order: Command, settings: Config) -> None:
    record = command_record(order, settings.topics.control, "/streamd/ctl")
    options = client_options(settings.kafka)
    with Sender(options.pop("bootstrap_servers"), record.topic, **options) as sender:
        assert record.value is not None
        sender.deliver(order.target, record.value, record.headers, timeout_seconds=_SEND_SECONDS, what="the command")


def _named(name: str | None, option: str) -> str:
    if name is None:
        raise typer.BadParameter(f"{option} is missing: whom is it about?")
    try:
        check_stream(name)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error
    return name


def _say(
    action: Literal["accept", "undo"],
    stream: str,
    columns: list[str],
    author: str | None,
    reason: str | None,
    wait: float,
    settings: Config,
) -> None:
    quiet_client()
    now_ms = time.time_ns() // 1_000_000
    name = author or getpass.getuser()
    message = accepting.encoded(action, stream, columns, name, reason or accepting.ACCEPTED, now_ms)
    accepting.tell(stream, message, settings, wait)
    typer.echo(accepting.said(action, stream, columns, settings) if wait else f"{stream}: {action} sent")


def _await(consumer: Any, command_id: str, wait: float) -> Acknowledgement | None:
    limits = Limits()
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        for envelope in heard(consumer):
            if command_id.encode() not in (envelope.value or b""):
                continue
            try:
                found = decode(envelope, limits, "telemetry")
            except InvalidRecord:
                continue
            if isinstance(found, Acknowledgement) and found.command_id == command_id:
                return found
    return None


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if match is None or float(match[1]) == 0:
        raise typer.BadParameter(f"--expires must be a time such as 90s, 10m or 2h, is {text!r}")
    return float(match[1]) * _UNITS[match[2]]
