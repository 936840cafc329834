"""A real Prometheus for tests, and its promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import orjson
from brokers import free_port
from needs import unavailable
from promql import RULES


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips where it is not there."""
    found = shutil.which(name)
    if found is None:
        unavailable(f"no {name}: apt-get install prometheus (nothing of it needs to be enabled as a service)")
    return found


class Prometheus:
    """Scrapes one address every second, under the job `streamd`, with our alert rules, which do not wait.

    Args:
        target: host and port.
        folder: for its configuration and data.
    """

    def __init__(self, target: str, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._program = program("prometheus")
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "rules.yml").write_text(re.sub(r"(?m)^ +for: \w+\n", "", RULES.read_text()))
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            "rule_files: [rules.yml]\n"
            f"scrape_configs: [{{job_name: streamd, static_configs: [{{targets: ['{target}']}}]}}]\n"
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        arguments = [
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--log.level=warn",
        ]
        log = self._folder / "prometheus.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        until = time.monotonic() + 30
        while True:
            try:
                urlopen(f"{self.url}/-/ready", timeout=5).close()
                return
            except (URLError, ConnectionError, TimeoutError):
                assert self._process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.1)

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now. Raises HTTPError where the expression is wrong."""
        result = self._get("query", query=expr)
        if result["resultType"] == "scalar":
            return [({}, float(result["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in result["result"]]

    def label_values(self, label: str, match: str) -> list[str]:
        values: list[str] = self._get(f"label/{label}/values", **{"match[]": match})
        return values

    def _get(self, path: str, **parameters: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
            return orjson.loads(answer.read())["data"]
