"""A worker's line to its parent, in processes of their own: it takes over stdin and stdout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from streamd.parent_line import RELOAD

pytestmark = pytest.mark.slow

WORKER = """
import sys, threading
from streamd.parent_line import ParentLine
parent = ParentLine(1)
print("noise of a library", flush=True)
parent.announce("http://127.0.0.1:1")
done = threading.Event()
parent.obey(done.set, lambda: print("reloaded", file=sys.stderr, flush=True))
done.wait()
print("stopped", file=sys.stderr)
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        yield process
        process.kill()


def test_what_else_is_printed_goes_to_stderr(worker: subprocess.Popen[bytes]) -> None:
    out, err = worker.communicate(timeout=30)
    assert out == b"http://127.0.0.1:1\n"
    assert err.splitlines() == [b"noise of a library", b"stopped"]


def test_a_reload_is_done_and_the_line_stays_open(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None
    assert worker.stderr is not None
    worker.stdin.write(RELOAD)
    worker.stdin.flush()
    assert [worker.stderr.readline(), worker.stderr.readline()] == [b"noise of a library\n", b"reloaded\n"]
    assert worker.poll() is None
    assert worker.communicate(timeout=30)[1] == b"stopped\n"
