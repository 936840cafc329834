"""deploy/Dockerfile without Docker: its steps in a mount namespace, then its entry point as uid 10001, all read-only.

What cannot be done here: pulling the base image, and downloading torch from PyTorch's own index. The packages that
streamd needs are those of the environment that runs the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dockerfile
import orjson
import pytest
from daemons import Daemon
from needs import unavailable

import streamd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BUILD, LAST = dockerfile.stages()

# The image's places over this machine's, for one process: nothing of it is seen outside, or stays.
_PLACES = """set -e
mount -t tmpfs tmpfs /opt && mkdir /opt/streamd && mount --bind "$1/opt" /opt/streamd
mount --bind "$1/etc" /etc
"""
_READ_ONLY = """for place in $(findmnt -rno TARGET); do mount -o remount,bind,ro "$place" 2>/dev/null || true; done
"""
# dac_read_search lets it read an interpreter that lies in somebody's home; it never lets it write.
_AS_USER = (
    "cd / && exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs "
    "--inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search --bounding-set=-all,+dac_read_search "
)


class Image:
    """What the Dockerfile's steps made, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "opt").mkdir()
        shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
        for source in BUILD.copied():
            place = dockerfile.ROOT / source
            copy = folder / "src" / source
            if place.is_dir():
                shutil.copytree(place, copy, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                copy.parent.mkdir(exist_ok=True)
                shutil.copy(place, copy)

    def build(self) -> None:
        """Every RUN of the file, as it stands there."""
        for command in BUILD.runs():
            self._run(command, BUILD)
            if "venv" in command:  # what the index would give: the packages that are here already
                (site_packages,) = (self.folder / "opt").glob("lib/python*/site-packages")
                (site_packages / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
                for old in site_packages.glob("setuptools*"):  # else it would be the backend: none is downloaded
                    shutil.rmtree(old)
        for command in LAST.runs():
            self._run(command, LAST)

    def _run(self, command: str, stage: dockerfile.Stage) -> None:
        # Nothing is downloaded: dependencies are there, and so is the build's backend.
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "false"}
        environment = stage.environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}") | offline
        self._namespace(f"cd {self.folder}/src && {command}", environment, check=True)

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """A command as the container runs it: uid 10001, its own environment alone, nothing to write to."""
        return self._namespace(self._contained(arguments), self.environment | (environment or {}))

    def start(self, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """The entry point."""
        command = self._contained([*LAST.command("ENTRYPOINT"), *LAST.command("CMD")])
        with log.open("wb") as file:
            return subprocess.Popen(
                self._words(command), env=self.environment | environment, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def environment(self) -> dict[str, str]:
        return LAST.environment(PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")

    def _contained(self, arguments: list[str] | tuple[str, ...]) -> str:
        return _READ_ONLY + _AS_USER + " ".join(f"'{argument}'" for argument in arguments)

    def _words(self, command: str) -> list[str]:
        return ["unshare", "--mount", "bash", "-c", _PLACES + command, "bash", str(self.folder)]

    def _namespace(
        self, command: str, environment: Mapping[str, str], check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self._words(command), env=dict(environment), capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        unavailable("playing the image needs root and mount namespaces, as in a container with CAP_SYS_ADMIN")
    folder = Path(tempfile.mkdtemp(prefix="streamd-image-"))  # not pytest's own, which uid 10001 may not enter
    folder.chmod(0o755)
    try:
        image = Image(folder)
        image.build()
        yield image
    finally:
        shutil.rmtree(folder)


def test_what_is_installed_is_this_version_and_runs_from_the_image(image):
    done = image.run("python", "-c", "import streamd; print(streamd.__version__, streamd.__file__)")
    version, place = done.stdout.split()
    assert version == streamd.__version__
    assert place.startswith("/opt/streamd/lib/")


def test_nothing_there_can_be_written_to(image):
    places = "/ /etc /opt/streamd /opt/streamd/numba /run /tmp /var/tmp /dev/shm"
    assert image.run("sh", "-c", "id -u; id -un").stdout.split() == ["10001", "streamd"]
    assert image.run("sh", "-c", f"for p in {places}; do touch $p/x 2>&1 && exit 1; done; true").returncode == 0


def test_the_health_check_says_no_where_no_daemon_runs(image):
    done = image.run(*LAST.command("HEALTHCHECK"))
    assert done.returncode == 1
    assert "does not answer" in done.stderr


def test_on_another_cpu_than_it_was_compiled_for_it_compiles_and_goes_on(image):
    code = 'from streamd.detectors import kernels_dependence; print("here")'
    done = image.run("python", "-c", code, environment={"NUMBA_CPU_FEATURES": "+sse3"})
    assert done.stdout == "here\n", done.stderr


@pytest.mark.broker
def test_the_entry_point_works_without_compiling_or_writing_anything(image, embedded_broker, tmp_path):
    there = Daemon(embedded_broker.bootstrap_servers, tmp_path)  # for its topics, its port, and to ask it
    settings = {name: value for name, value in there.environment.items() if name.startswith("STREAMD_")}
    settings |= {"STREAMD_ADMIN__HOST": "127.0.0.1", "NUMBA_DEBUG_CACHE": "1"}
    log = tmp_path / "log"
    process = image.start(log, settings)
    try:
        until = time.monotonic() + 90
        while image.run("streamd", "health", environment=settings).returncode:
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < until, log.read_text()[-3000:]
        assert image.run(*LAST.command("HEALTHCHECK"), environment=settings).returncode == 0
        text = log.read_text()
        compiled = list((image.folder / "opt/numba").rglob("*.nbc"))
        assert compiled
        loaded = set(re.findall(r"data loaded from '(\S+)'", text))
        assert loaded
        assert {Path(name).name for name in loaded} <= {file.name for file in compiled}  # `screen` has loops of its own
        assert "saved" not in text
        _the_demo_is_seen(image, settings, there)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def _the_demo_is_seen(image: Image, settings: Mapping[str, str], there: Daemon) -> None:
    """As in compose.yaml: the demo's producer in a container of its own, from the same image."""
    command = image._contained(["streamd", "demo", "--bootstrap-servers", there.bootstrap_servers])
    demo = subprocess.Popen(image._words(command), env=image.environment | settings, stdout=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        watched: set[str] = set()
        while watched != {"employment/2016", "employment/2017"}:
            assert demo.poll() is None
            assert time.monotonic() < until, watched
            watched = {stream["stream"] for stream in orjson.loads(there.get("/streams")[1])["streams"]}
    finally:
        demo.terminate()
        demo.communicate()
