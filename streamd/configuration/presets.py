"""The presets of training rules as configuration files: what is in force, in full, to read and to copy from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from streamd.configuration.documents import flow
from streamd.rules.presets import ABOUT, PRESETS


def preset_file(name: str) -> str:
    """The file `config/presets/<name>.yaml`: the same rules as `rules: {preset: <name>}`, written out."""
    lines = [
        f"# The rules of `rules: {{preset: {name}}}`, written out; made by `python -m streamd.configuration.presets`.",
        *(f"# {line}" for line in textwrap.wrap(ABOUT[name], 110)),
        "rules:",
        "  preset: none",
        "  changes:",
        *_rules(name),
    ]
    return "\n".join(lines) + "\n"


def _rules(name: str) -> Iterator[str]:
    for rule, config in PRESETS[name].items():
        yield f"    {rule}:"
        for key, value in sorted(config, key=lambda item: item[0] != "type"):
            yield f"      {key}: {flow(value)}"


def main() -> None:
    from pathlib import Path

    folder = Path("config/presets")
    folder.mkdir(parents=True, exist_ok=True)
    for name in PRESETS:
        if name != "none":
            (folder / f"{name}.yaml").write_text(preset_file(name))


if __name__ == "__main__":
    main()
