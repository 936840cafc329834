"""compose.yaml: valid, and every file, port, address, verb and setting in it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dockerfile
import pytest
import yaml
from needs import unavailable

from streamd.cli import main
from streamd.config_loading import load
from streamd.observe.settings import AdminSettings
from streamd.transport import kafka_admin
from streamd.transport.settings import KafkaSettings

DEPLOY = dockerfile.ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
KAFKA: dict[str, str] = SERVICES["kafka"]["environment"]


def provisioning(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "grafana/provisioning" / path).read_text()))


def mounts(service: str) -> dict[str, Path]:
    """Place in the container -> place here."""
    volumes = [volume.split(":") for volume in SERVICES[service]["volumes"]]
    return {inside: (DEPLOY / outside).resolve() for outside, inside, _read_only in volumes}


def test_it_is_valid_by_the_schema_of_the_compose_specification():
    if shutil.which("check-jsonschema", path=Path(sys.executable).parent) is None:
        unavailable("no check-jsonschema: pip install check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_whatever_is_mounted_is_there_and_read_only():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            assert volume.endswith(":ro")
        for place in mounts(name).values() if "volumes" in service else ():
            assert place.exists(), place


def test_nothing_listens_outside_of_this_machine():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in ports)


def test_the_variables_of_streamd_are_settings_and_lead_to_the_broker():
    config = load(None, SERVICES["streamd"]["environment"]).config
    assert ["INSIDE://" + server for server in config.kafka.bootstrap_servers] == [
        KAFKA["KAFKA_ADVERTISED_LISTENERS"].split(",")[0]
    ]


def test_what_the_containers_run_is_understood_by_streamd(capsys):
    for command in (SERVICES["demo"]["command"], SERVICES["streamd"]["healthcheck"]["test"][2:]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--help"])
        assert not caught.value.code
        options = [word for word in command if word.startswith("-")]
        assert all(option in capsys.readouterr().out for option in options)


def test_the_image_is_built_from_the_dockerfile():
    build = SERVICES["streamd"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == dockerfile.ROOT
    assert context / build["dockerfile"] == dockerfile.PATH
    assert SERVICES["demo"]["image"] == SERVICES["streamd"]["image"]


def test_prometheus_scrapes_streamd_and_has_its_rules():
    folder = mounts("prometheus")["/etc/prometheus"]
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "streamd"  # what the rules and the dashboards look for
    assert job["static_configs"] == [{"targets": [f"streamd:{AdminSettings().port}"]}]
    assert all((folder / name).exists() for name in config["rule_files"])


def test_promtool_finds_nothing():
    if shutil.which("promtool") is None:
        unavailable("no promtool: Debian's package prometheus has it")
    done = subprocess.run(
        ["promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_asks_prometheus_and_shows_the_dashboards():
    (source,) = provisioning("datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"]
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    (provider,) = provisioning("dashboards/streamd.yaml")["providers"]
    folder = mounts("grafana")[provider["options"]["path"]]
    assert folder == dockerfile.ROOT / "grafana"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (folder / home.name).exists()


@pytest.mark.kafka
@pytest.mark.slow
def test_a_real_kafka_starts_with_these_settings_and_answers_at_both_doors(make_kafka):
    settings = {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in KAFKA.items()}
    del settings["controller.quorum.voters"]  # the launcher's own quorum, of the same one node
    here = {
        "INSIDE://:19092": "INSIDE://127.0.0.1:{inside}",
        "OUTSIDE://:9092": "OUTSIDE://127.0.0.1:{port}",
        "INSIDE://kafka:19092": "INSIDE://127.0.0.1:{inside}",
        "OUTSIDE://localhost:9092": "OUTSIDE://127.0.0.1:{port}",
        "localhost:9093": "127.0.0.1:{controller}",
    }
    for there, replacement in here.items():
        settings = {name: value.replace(there, replacement) for name, value in settings.items()}
    broker = make_kafka(*(f"{name}={value}" for name, value in settings.items()), more=("inside",))
    broker.start()
    for port in (broker.port, broker.ports["inside"]):
        kafka_admin.list_topics(KafkaSettings(bootstrap_servers=(f"127.0.0.1:{port}",)))
