"""The same findings by Ray's workers as by one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from needs import package
from planted import RULES, planted

from streamd.screening import screen, source
from streamd.screening.rules import Rules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    """A Ray of this test's own on this machine."""
    package("ray", "pip install 'streamd[ray]'")
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    paths = os.pathsep.join(path for path in sys.path if path)
    ray.init(
        num_cpus=2,
        log_to_driver=False,
        configure_logging=False,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()


@pytest.mark.timeout(300)
def test_two_ray_workers_find_what_one_process_finds(two_workers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK_ROWS", 4000)
    data, rules = planted(0), Rules.model_validate(RULES)
    one = screen(data.table, label=data.label, time=data.time, rules=rules)
    many = screen(data.table, label=data.label, time=data.time, rules=rules, engine="ray")
    assert many.to_json() == one.to_json()
    assert len(one.findings) > 30
