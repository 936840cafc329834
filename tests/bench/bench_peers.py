"""The environment of the peers, made when it is wanted, and the peers as processes that take turns with us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
WANTED = {".venv-peers": "peers.txt", ".venv-peers-screening": "peers_screening.txt"}
HOME = ROOT / ".venv-peers"
PYTHON = HOME / "bin/python"
NO_INSTALL = "STREAMD_BENCH_NO_INSTALL"  # set: use the environment where it is there already

_ENVIRONMENT = os.environ | {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}


class NoPeersError(Exception):
    """The peers are not here; the message says why."""


def make_environment(home: str = HOME.name) -> Path:
    """Install what it wants, once; its Python. Raises NoPeersError."""
    folder, wanted = ROOT / home, Path(__file__).with_name(WANTED[home])
    python, stamp = folder / "bin/python", folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return python
    if os.environ.get(NO_INSTALL):
        raise NoPeersError("the peers are not installed")
    print(f"installing the peers into {home} (once, some minutes) …", file=sys.stderr, flush=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install", "-r", str(wanted)]
    for command in ([sys.executable, "-m", "venv", str(folder)], pip):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise NoPeersError(f"the peers cannot be installed: {last}")
    stamp.write_text(wanted.read_text())
    return python


class Peer:
    """A script of this folder under the peers' Python: one JSON line in, one JSON line out, as often as wanted.

    Args:
        script: its name.
        arguments: for it.
        home: the environment that it runs in.

    Raises:
        NoPeersError: the environment cannot be made, or the script ended before it was ready.
    """

    def __init__(self, script: str, *arguments: str, home: str = HOME.name) -> None:
        python = make_environment(home)
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name(script)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            text=True,
        )
        self.ready = self._answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise NoPeersError(f"the peer ended: {(errors.strip().splitlines() or ['without a word'])[-1]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Closing its input ends it."""
        if self._process.poll() is None:
            try:
                self._process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
