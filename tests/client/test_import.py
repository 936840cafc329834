"""What importing the client costs an application: the base install is kafka-python and orjson."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # each starts an interpreter

HEAVY = (
    "numpy",
    "torch",
    "pydantic",
    "scipy",
    "pandas",
    "polars",
    "pyarrow",
    "numba",
    "sklearn",
    "typer",
    "rich",
    "yaml",
    "psutil",
    "lightning",
    "transformers",
    "keras",
    "mlflow",
)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_importing_the_client_imports_nothing_heavy() -> None:
    result = run(f"import sys, streamd.client; print([name for name in {HEAVY} if name in sys.modules])")
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_the_client_sends_lists_where_only_the_base_install_is_there() -> None:
    code = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # importing it raises ImportError
from streamd.client import FeatureProducer
producer = FeatureProducer("127.0.0.1:1")
producer.send("s", {{"x": [1.0, None], "country": ["DE", "FR"]}}, logits=[[0.1, 0.2], [0.3, 0.4]])
producer.send("s", [{{"x": 1.0}}, {{"x": 2.0}}])
try:
    FeatureProducer("127.0.0.1:1", format="arrow")
except ValueError as error:
    print(error)
print(producer.stats.queued)
producer.close(0.0)
"""
    result = run(code)
    assert result.stdout.splitlines() == ["format 'arrow' needs the package pyarrow: pip install pyarrow", "2"], result


def test_a_process_with_undelivered_batches_ends_without_a_trace_of_it() -> None:
    code = """
import logging
from streamd.client import FeatureProducer
logging.disable(logging.WARNING)
producer = FeatureProducer("127.0.0.1:1")
producer.send("s", {"x": [1.0]})
"""
    result = run(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_run_without_torch_sends_its_metrics_where_only_the_base_install_is_there() -> None:
    code = f"""
import sys
for name in (*{HEAVY}, "pynvml"):
    sys.modules[name] = None  # importing it raises ImportError
from streamd.client import TrainingMonitor
with TrainingMonitor("r", bootstrap_servers="127.0.0.1:1", allow={{"stop", "pause"}}) as monitor:
    for batch in monitor.batches(range(3)):
        monitor.step(loss=float("nan"))
    print(monitor.stats.queued)
    monitor.close(0.0)
"""
    result = run(code)
    assert (result.returncode, result.stdout) == (0, "3\n"), result
