"""`streamd asyncapi`: the topics as configured, as a document that other tools read."""

from __future__ import annotations

import json

from streamd.cli.common import ConfigOption, load_config


def command(config: ConfigOption = None) -> None:
    """Print the AsyncAPI 3 document of the configured topics."""
    from streamd.asyncapi import document

    topics = load_config(config).config.topics.model_dump()
    print(json.dumps(document(topics), indent=2, ensure_ascii=False))
