"""A Dockerfile as its stages and instructions, for tests that do what it says without Docker."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = ROOT / "deploy/Dockerfile"


@dataclass
class Stage:
    """What follows one FROM: (instruction, arguments) in order."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The arguments of each instruction of that name."""
        return [arguments for instruction, arguments in self.instructions if instruction == name]

    def one(self, name: str) -> str:
        (arguments,) = self.all(name)
        return arguments

    def command(self, name: str) -> list[str]:
        """The last word of the instruction in exec form; ValueError for the shell form."""
        text = self.one(name)
        return [str(word) for word in json.loads(text[text.index("[") :])]

    def runs(self) -> list[str]:
        """The shell commands of RUN, without its own flags."""
        return [re.sub(r"^(--\S+\s+)+", "", command) for command in self.all("RUN")]

    def copied(self) -> list[str]:
        """What is copied from the build's context."""
        copies = [shlex.split(arguments) for arguments in self.all("COPY") if not arguments.startswith("--from")]
        return [source for words in copies for source in words[:-1]]

    def environment(self, **outer: str) -> dict[str, str]:
        """`outer` with what ENV and ARG add to it."""
        environment = dict(outer)
        for name, arguments in self.instructions:
            if name in ("ENV", "ARG"):
                for word in shlex.split(arguments):
                    key, _, value = word.partition("=")
                    known = dict(environment)
                    environment[key] = re.sub(r"\$\{?(\w+)\}?", lambda match, k=known: k[match[1]], value)
        return environment


def stages() -> list[Stage]:
    """Those of deploy/Dockerfile, in order."""
    lines = [line for line in PATH.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for instruction in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, arguments = instruction.partition(" ")
        if name == "FROM":
            found.append(Stage(arguments.split()[0]))
        else:
            found[-1].instructions.append((name, arguments.strip()))
    return found
