"""`streamd top`: the live view in a terminal."""

from __future__ import annotations

import math
import os
import pty
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl

import pytest
from live import Live
from rich.cells import cell_len
from starlette.applications import Starlette

from streamd.cli import main, top
from streamd.cli.exit_codes import ExitCode
from streamd.observe import admin


@pytest.fixture
def live() -> Iterator[Live]:
    with Live() as live:
        yield live


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["top", *arguments])
    return int(caught.value.code or 0)


@pytest.mark.slow
def test_once_prints_the_streams_worst_first_in_80_columns(live, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    live.watched("calm", "bad", "数" * 40)
    live.send("bad", shift=2.0)
    live.reference("silent")
    assert run("--once", "--url", live.url) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert lines[0].split() == ["streamd", "running", "1", "warning", "2", "quiet", "1", "unknown"]
    assert [line.split()[0] for line in lines[3:]] == ["warning", "amount", "quiet", "quiet", "unknown", "1"]
    assert lines[4].strip().startswith("amount drifted up (KS D=")
    assert lines[-1] == "1 to 4 of 4, worst first"


@pytest.mark.slow
def test_a_run_shows_its_loss_and_step_and_where_it_was_no_number(live, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    live.train("bert-42", [2.0, 1.0, 1.5], first=1200)
    live.train("gpt-1", [2.0, math.nan])
    assert run("--once", "--url", live.url) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[:-2] == ["critical", "gpt-1", "▅!", "NaN", "step", "2"]
    assert "loss (nan) is not a number any more" in lines[4]
    assert lines[5].split()[:-2] == ["quiet", "bert-42", "█▁▅", "1.50", "step", "1202"]
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.slow
def test_what_is_no_terminal_gets_the_table_once(live, capsys):
    live.watched("calm")
    assert run("--url", live.url) == ExitCode.OK
    assert "calm" in capsys.readouterr().out


def test_a_search_shows_what_is_found(live, capsys):
    live.heard(30)
    assert run("--once", "--search", "0001", "--url", live.url) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1] == "1 to 11 of 11, worst first"  # 00001, 00010 to 00019


def test_a_daemon_without_streams_says_so(live, capsys):
    assert run("--once", "--url", live.url) == ExitCode.OK
    assert "no stream yet" in capsys.readouterr().out


def test_a_name_does_not_steer_the_terminal(live, capsys):
    live.heard(1, "evil\x1b[2J{}")
    assert run("--once", "--url", live.url) == ExitCode.OK
    assert "\x1b[2J" not in capsys.readouterr().out


def test_where_nobody_answers_the_code_is_69_and_the_sentence_says_what_to_do(capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        assert run("--url", url) == ExitCode.UNAVAILABLE
    assert f"does not answer at {url}" in capsys.readouterr().err


def test_what_is_no_address_is_told(capsys):
    assert run("--url", "nonsense") == ExitCode.UNAVAILABLE
    assert "is --url right?" in capsys.readouterr().err


def test_a_server_without_a_live_view_is_told(capsys):
    server = admin.serve(Starlette(), "127.0.0.1", 0)
    assert run("--url", server.url) == ExitCode.UNAVAILABLE
    server.stop()
    assert "no live view" in capsys.readouterr().err


def test_a_trace_shows_the_largest_of_its_points_and_colours_what_reaches_the_threshold():
    assert top._trace([0] * 12, "red").plain == "▁" * 12
    assert top._trace([255], "red").plain == " " * 11 + "█"
    rising = top._trace([0] * 60 + [64] * 60, "red")
    assert rising.plain == "▁" * 6 + "▅" * 6
    assert {span.style for span in rising.spans if span.start >= 6} == {"red"}


@pytest.mark.slow
def test_in_a_terminal_it_follows_what_happens_until_q(live):
    live.watched("a", "b")
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    environment = {**os.environ, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "streamd", "top", "--url", live.url]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    try:
        _read_until(ours, "quiet")
        for _ in range(3):
            live.send("b", shift=2.0)
        _read_until(ours, "critical")
        os.write(ours, b"q")
        _read_until(ours, "\x1b[?1049l")  # the screen is as it was
        assert process.wait(30) == 0
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def _read_until(terminal: int, text: str) -> None:
    seen, until = b"", time.monotonic() + 60
    while text.encode() not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"{text!r} did not come: {seen[-2000:]!r}"
        seen += os.read(terminal, 65536)
