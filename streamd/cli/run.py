"""`streamd run`: the daemon."""

from __future__ import annotations

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
) -> None:
    """Watch every stream on Kafka until SIGTERM or Ctrl-C.

    No file is needed. Any key can come from the environment:
    STREAMD_KAFKA__BOOTSTRAP_SERVERS=host:9092 streamd run

    SIGHUP reads the configuration again; one that is wrong changes nothing.
    """
    from streamd import daemon  # the verb's help needs none of what this imports

    def load() -> Config:
        loaded = load_config(config).config
        if create_topics is None:
            return loaded
        kafka = loaded.kafka.model_copy(update={"create_topics": create_topics})
        return loaded.model_copy(update={"kafka": kafka})

    raise typer.Exit(daemon.run(load))
