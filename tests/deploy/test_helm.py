"""The Helm chart, linted and rendered by Helm's own engine, and every object held against Kubernetes' schemas.

The kinds of other projects (Prometheus operator, KEDA) have no schema there; their fields are spelled out below.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any

import dockerfile
import jsonschema
import pytest
import yaml
from dockerfile import ROOT
from needs import unavailable
from prometheus_client import CollectorRegistry

import streamd
from streamd.config_loading import load, problems_of_file
from streamd.observe.admin import create_app
from streamd.observe.board import Board
from streamd.observe.health import Health

CHART = ROOT / "deploy/helm/streamd"
Values = dict[str, Any]
LEAST: Values = {"config": {"kafka": {"bootstrap_servers": "kafka:9092"}}}
ALL: Values = yaml.safe_load((CHART / "ci/all-values.yaml").read_text())
KUBERNETES = ("1.27", "1.30", "1.37")  # the oldest that Chart.yaml allows, one between, the newest
FOREIGN = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


def needed(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        unavailable(f"no {module}: pip install {package}")


def render(values: Values) -> list[dict[str, Any]]:
    """Every object of the chart."""
    with needed("helm_python", "helm-python-sdk").Chart.load(CHART) as chart:
        files: dict[str, str] = chart.render(values, name="watch", namespace="ml")
    texts = [text for name, text in sorted(files.items()) if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


@cache
def everything() -> dict[str, dict[str, Any]]:
    """With everything switched on: kind -> object."""
    return {document["kind"]: document for document in render(ALL)}


def refusal(values: Values) -> str:
    helm = needed("helm_python", "helm-python-sdk")
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError) as caught:
        chart.render(values, name="watch")
    return str(caught.value)


@pytest.mark.parametrize("values", [LEAST, ALL], ids=["least", "all"])
def test_helm_lint_finds_nothing(values):
    report = needed("helm_python", "helm-python-sdk").lint(CHART, values, strict=True)
    assert report["total_charts_linted"] == 1
    # An icon is recommended to charts that are to be published in a catalogue.
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [LEAST, ALL], ids=["least", "all"])
def test_kubernetes_knows_every_field(values, version):
    validate = needed("kubernetes_validate", "kubernetes-validate").validate
    documents = [document for document in render(values) if document["kind"] not in FOREIGN]
    assert documents
    for document in documents:
        validate(document, version, strict=True)


def fields(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """A JSON Schema of an object with these fields and no others."""
    properties = required | optional
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
SPECS = {
    "ServiceMonitor": fields(
        {
            "jobLabel": TEXT,
            "selector": fields({"matchLabels": TEXTS}),
            "endpoints": {"items": fields({"port": TEXT, "path": TEXT, "interval": TEXT})},
        }
    ),
    "PrometheusRule": fields({"groups": {"items": fields({"name": TEXT, "rules": {"minItems": 1}}, interval=TEXT)}}),
    "ScaledObject": fields(
        {
            "scaleTargetRef": fields({"name": TEXT}),
            "minReplicaCount": WHOLE,
            "maxReplicaCount": WHOLE,
            "cooldownPeriod": WHOLE,
            "advanced": {"type": "object"},
            "triggers": {
                "items": fields({"type": TEXT, "metadata": TEXTS}, authenticationRef=fields({"name": TEXT})),
                "minItems": 1,
            },
        }
    ),
}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_the_objects_of_other_projects_have_their_fields(kind):
    jsonschema.validate(everything()[kind]["spec"], SPECS[kind])


def test_what_is_not_switched_on_is_not_there():
    kinds = {document["kind"] for document in render(LEAST)}
    assert kinds == {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service", "ServiceAccount"}


def pod() -> dict[str, Any]:
    return dict(everything()["Deployment"]["spec"]["template"])


def container() -> dict[str, Any]:
    (only,) = pod()["spec"]["containers"]
    return dict(only)


def test_the_config_map_is_a_configuration_that_streamd_takes(tmp_path):
    (file,) = everything()["ConfigMap"]["data"]
    path = tmp_path / file
    path.write_text(everything()["ConfigMap"]["data"][file])
    assert problems_of_file(path) == []
    (mount,) = [mount for mount in container()["volumeMounts"] if mount["name"] == "config"]
    assert container()["args"] == ["run", "--config", f"{mount['mountPath']}/{file}"]


def test_the_variables_are_settings_and_the_probes_and_prometheus_ask_where_streamd_answers():
    set_ = {one["name"]: one["value"] for one in container()["env"] if one["name"].startswith("STREAMD_")}
    admin = load(None, set_).config.admin
    (port,) = container()["ports"]
    assert (admin.host, admin.port) == ("0.0.0.0", port["containerPort"])
    paths = {route.path for route in create_app(CollectorRegistry(), Board(), Health(), dict, "0").routes}  # type: ignore[attr-defined]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container()[probe]["httpGet"]["path"] in paths
        assert container()[probe]["httpGet"]["port"] == port["name"]
    (endpoint,) = everything()["ServiceMonitor"]["spec"]["endpoints"]
    (service_port,) = everything()["Service"]["spec"]["ports"]
    assert endpoint["path"] in paths
    assert endpoint["port"] == service_port["name"]
    assert service_port["targetPort"] == port["name"]


def test_the_job_is_called_streamd_as_the_rules_have_it():
    label = everything()["ServiceMonitor"]["spec"]["jobLabel"]
    assert everything()["Service"]["metadata"]["labels"][label] == "streamd"
    jobs = set(re.findall(r'job="(\w+)"', (ROOT / "deploy/prometheus/rules.yml").read_text()))
    assert jobs == {"streamd"}


def test_all_selectors_find_the_pod_and_the_service():
    labels = pod()["metadata"]["labels"].items()
    found = everything()
    for selector in (
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    wanted = found["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= found["Service"]["metadata"]["labels"].items()


def test_the_pod_runs_as_the_user_of_the_image_and_writes_nowhere():
    context = pod()["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == dockerfile.stages()[-1].one("USER")
    assert container()["securityContext"]["readOnlyRootFilesystem"]
    assert not any("emptyDir" in volume for volume in pod()["spec"]["volumes"])


def test_keda_watches_the_group_and_the_topics_that_streamd_reads():
    triggers = [trigger["metadata"] for trigger in everything()["ScaledObject"]["spec"]["triggers"]]
    assert [trigger["topic"] for trigger in triggers] == ["prod.features", "streamd.telemetry"]
    assert {trigger["consumerGroup"] for trigger in triggers} == {"watchers"}
    assert {trigger["bootstrapServers"] for trigger in triggers} == {"kafka-0:9093,kafka-1:9093"}
    target = everything()["ScaledObject"]["spec"]["scaleTargetRef"]["name"]
    assert target == everything()["Deployment"]["metadata"]["name"]
    assert "replicas" not in everything()["Deployment"]["spec"]  # else each upgrade would undo what KEDA did


def test_the_defaults_that_keda_is_told_are_those_of_streamd():
    config = load(None, {}).config
    (scaled,) = [
        document for document in render(LEAST | {"keda": {"enabled": True}}) if document["kind"] == "ScaledObject"
    ]
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    assert [trigger["topic"] for trigger in triggers] == [config.topics.features, config.topics.telemetry]
    assert {trigger["consumerGroup"] for trigger in triggers} == {config.kafka.group_id}
    assert {trigger["offsetResetPolicy"] for trigger in triggers} == {config.kafka.auto_offset_reset}


def test_the_rules_are_those_of_the_repository():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert everything()["PrometheusRule"]["spec"] == rules


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "bootstrap_servers"),
        ({"config": {"kafka": {"bootstrap_servers": "k:9092", "sasl_password": "hunter2"}}}, "sasl_password"),
        (LEAST | {"replica": 3}, "replica"),
        (LEAST | {"keda": {"minReplicas": 0}}, "minReplicas"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values, word):
    assert word in refusal(values)


def test_a_new_configuration_is_a_new_pod():
    other = LEAST | {"config": LEAST["config"] | {"topics": {"features": "other"}}}
    sums = [
        document["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for values in (LEAST, other)
        for document in render(values)
        if document["kind"] == "Deployment"
    ]
    assert sums[0] != sums[1]


def test_the_chart_has_the_version_of_streamd():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (streamd.__version__, streamd.__version__)
