"""`streamd run`: the daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamd.cli.common import ConfigOption, load_config

if TYPE_CHECKING:
    from streamd.config import Config


def command(
    config: ConfigOption = None,
    create_topics: Annotated[
        bool | None,
        typer.Option(
            "--create-topics/--no-create-topics",
            help="Make missing topics, or refuse to start without them. As configured, unless given.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Processes that share the partitions. As configured, else 1.", show_default=False
        ),
    ] = None,
    worker: Annotated[int | None, typer.Option(hidden=True, help="Be this worker of a parent on stdin.")] = None,
) -> None:
    """Watch every stream on Kafka until SIGTERM or Ctrl-C.

    No file is needed. Any key can come from the environment:
    STREAMD_KAFKA__BOOTSTRAP_SERVERS=host:9092 streamd run

    SIGHUP reads the configuration again; one that is wrong changes nothing.
    """

    def load() -> Config:
        loaded = load_config(config).config
        if workers is not None:
            loaded = loaded.model_copy(update={"workers": workers})
        if create_topics is None:
            return loaded
        kafka = loaded.kafka.model_copy(update={"create_topics": create_topics})
        return loaded.model_copy(update={"kafka": kafka})

    raise typer.Exit(_one(load, worker) if worker is not None else _all(load, config, create_topics))


# The verb's help needs none of what these import, and a parent of workers nothing of what a worker needs.


def _one(load: Callable[[], Config], worker: int) -> int:
    from streamd.parent_line import ParentLine

    parent = ParentLine(worker)
    from streamd import daemon

    return daemon.run(load, parent)


def _all(load: Callable[[], Config], path: Path | None, create_topics: bool | None) -> int:
    config = load()
    if config.workers == 1:
        from streamd import daemon

        return daemon.run(load)
    from streamd import fleet

    arguments = [] if path is None else ["--config", str(path)]
    if create_topics is not None:
        arguments.append("--create-topics" if create_topics else "--no-create-topics")
    return fleet.run(config, arguments)
