"""The command line: a table of verbs, each in a module that is imported when it is called.

To add a verb: one line in VERBS, and a module whose `command` is a typer-style function (or a typer.Typer).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from streamd.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verb(NamedTuple):
    """One verb: `help` stands here so that `streamd --help` need not import its module."""

    name: str
    module: str
    help: str
    panel: str


VERBS = (
    Verb("run", "streamd.cli.run", "Watch every stream on Kafka until stopped.", "Watch"),
    Verb("demo", "streamd.cli.demo", "See it work: a broker, real data, the daemon, alerts.", "Watch"),
    Verb("top", "streamd.cli.top", "Show a running daemon's streams live, worst first.", "Watch"),
    Verb("tail", "streamd.cli.tail", "Show alerts as they fire, as sentences.", "Watch"),
    Verb("ctl", "streamd.cli.ctl", "Tell a run: pause, stop, …; say what is normal: accept.", "Watch"),
    Verb("send", "streamd.cli.send", "Send the rows of a file as feature batches.", "Data"),
    Verb("replay", "streamd.cli.replay", "Back-test detectors on a recording, topic or table.", "Data"),
    Verb("calibrate", "streamd.cli.calibrate", "Count the false alarms of a healthy past; fit thresholds.", "Data"),
    Verb("record", "streamd.cli.record", "Write a topic's records to a file, to be replayed.", "Data"),
    Verb("dlq", "streamd.cli.dlq", "List, show and send back records that could not be used.", "Data"),
    Verb("screen", "streamd.cli.screen", "Say what is wrong with a data set before training.", "Models"),
    Verb("fit", "streamd.cli.fit", "Learn what normal rows look like; write a bundle.", "Models"),
    Verb("bundle", "streamd.cli.bundle", "Show, verify and compare bundles.", "Models"),
    Verb("evaluate", "streamd.cli.evaluate", "Say how good a bundle is on labelled rows.", "Models"),
    Verb("badcases", "streamd.cli.badcases", "Show the rows that a bundle finds worst, and why.", "Models"),
    Verb("check", "streamd.cli.check", "Check configuration, files, models and broker in turn.", "Set up"),
    Verb("doctor", "streamd.cli.doctor", "Probe the broker: what it guarantees, what to mend.", "Set up"),
    Verb("health", "streamd.cli.health", "Ask a running daemon whether it is ready; exit 0 or 1.", "Set up"),
    Verb("config", "streamd.cli.config_show", "Show the configuration, and where each value comes from.", "Set up"),
    Verb("schema", "streamd.cli.schema", "Print the JSON Schema of a message or of the configuration.", "Set up"),
    Verb("asyncapi", "streamd.cli.asyncapi", "Print the AsyncAPI document of the configured topics.", "Set up"),
    Verb("completion", "streamd.cli.completion", "Set up completion in the shell.", "Set up"),
    Verb("version", "streamd.cli.version", "Print the version, and those of what streamd stands on.", "Set up"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the verb that the command line names, and exit. Raises SystemExit, always.

    Args:
        arguments: without the program's name; None: sys.argv's.
    """
    try:
        import typer  # noqa: F401 - the base install is the client alone
    except ModuleNotFoundError:
        _exit(ExitCode.UNAVAILABLE, "streamd: the commands need more than the client: pip install 'streamd[daemon]'")
    from streamd.cli import verbs

    sys.exit(verbs.run(arguments))


def _exit(code: ExitCode, sentence: str) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(code)
