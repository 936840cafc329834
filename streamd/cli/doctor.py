"""`streamd doctor`: probe the broker, say what to mend, and what it guarantees."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli.common import ConfigOption
from streamd.cli.connection import BootstrapServers, load_config, quiet_client
from streamd.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from streamd.transport.kafka_probe import Finding

_MARKS = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "problem": "[red]✗[/red]"}


def command(
    write: Annotated[
        bool,
        typer.Option(
            "--write/--no-write",
            help="Try transactions in a topic of its own, deleted at the end. Without it the guarantee is not known.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for machines.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config: ConfigOption = None,
) -> None:
    """Probe the broker: what is wrong, what to do about it, and what it guarantees.

    ✓ is fine, ! works and should be looked at, ✗ must be mended. Exits with 0 without a ✗, with 69 when the broker
    does not answer, else with 78. No topic, group or record of yours is changed.
    """
    quiet_client()
    settings = load_config(bootstrap_servers, config)
    from streamd.transport.kafka_probe import Guarantee, Verdict, examine

    findings: list[Finding] = []
    guarantee = Guarantee.UNKNOWN
    with closing(examine(settings.kafka, settings.topics, write)) as examination:  # Ctrl-C too deletes its topic
        for found in examination:
            if isinstance(found, Verdict):
                guarantee = found.guarantee
            findings.append(found.finding if isinstance(found, Verdict) else found)
            if not as_json:
                _print(findings[-1])
    code = _exit_code(findings)
    if as_json:
        _print_json(findings, guarantee, code)
    raise typer.Exit(code)


def _exit_code(findings: list[Finding]) -> ExitCode:
    problems = {finding.subject for finding in findings if finding.outcome == "problem"}
    if "reach" in problems:
        return ExitCode.UNAVAILABLE
    return ExitCode.CONFIG if problems else ExitCode.OK


def _print(finding: Finding) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(_MARKS[finding.outcome], f"{finding.subject:<12}", Text(finding.sentence))
    Console(highlight=False).print(line)


def _print_json(findings: list[Finding], guarantee: str, code: ExitCode) -> None:
    import orjson

    lines = [{"subject": f.subject, "outcome": f.outcome, "sentence": f.sentence} for f in findings]
    typer.echo(orjson.dumps({"guarantee": guarantee, "exit_code": int(code), "findings": lines}).decode())
