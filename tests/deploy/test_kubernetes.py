"""The Helm chart and the manifests made from it: valid, equal, and fit for the server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from odin_ws.settings import Settings, declared_settings
from tests.deploy.queries import ROOT, RULES

KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = KUBERNETES / "chart"

# The oldest version with `preStop.sleep` enabled by default, one between, and the newest one.
VERSIONS = ("1.30", "1.34", "1.37")

# Values that enable every feature of the chart.
FULL: dict[str, Any] = {
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True},
    "trustedProxies": "10.0.0.0/8",
    "secret": {"files": {"KAFKA_SASL_PASSWORD": "kafka-password", "WS_OPS_TOKEN": "ops-token"}},
    "monitoring": {"tokenKey": "ops-token"},
    "settings": {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "odin"},
    "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}},
    "podAnnotations": {"example.com/a": "b"},
    "nodeSelector": {"example.com/a": "b"},
    "tolerations": [{"key": "odin", "operator": "Exists"}],
}

Objects = dict[tuple[str, str], dict[str, Any]]


def python(code: str) -> Any:
    """Return the JSON result of a piece of tools/manifests.py."""
    done = run(code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python_error(code: str) -> str:
    """Return the error of a piece of tools/manifests.py."""
    done = run(code)
    assert done.returncode != 0
    return done.stderr


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of tools/manifests.py."""
    if shutil.which("go") is None:
        if os.environ.get("ODIN_REQUIRE_STACK") == "1":
            pytest.fail("ODIN_REQUIRE_STACK=1, but there is no Go to render the chart with")
        pytest.skip("without Go the chart cannot be rendered")
    text = "import json, sys; sys.path.insert(0, 'tools'); import manifests"
    command = [sys.executable, "-c", f"{text}; print(json.dumps({code}))"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def rendered(changes: Mapping[str, Any]) -> Objects:
    """Render the chart with changes to its values; objects by kind and name."""
    found = python(f"manifests.render(json.loads({json.dumps(changes)!r}))")
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


@pytest.fixture(scope="module")
def plain() -> Objects:
    """The chart with its default values."""
    return rendered({})


@pytest.fixture(scope="module")
def full() -> Objects:
    """The chart with every feature."""
    return rendered(FULL)


def pod(objects: Objects) -> dict[str, Any]:
    """The pod's spec."""
    spec: dict[str, Any] = objects["Deployment", "odin-ws"]["spec"]["template"]["spec"]
    return spec


def container(objects: Objects) -> dict[str, Any]:
    """The server's container."""
    (found,) = pod(objects)["containers"]
    server: dict[str, Any] = found
    return server


def environ(objects: Objects) -> dict[str, str]:
    """The container's environment."""
    return {one["name"]: one["value"] for one in container(objects)["env"]}


def test_manifests_are_current() -> None:
    """The files for kustomize equal the chart with its values; tools/manifests.py writes them."""
    expected = python("manifests.files()")
    for name, text in expected.items():
        assert (KUBERNETES / name).read_text("utf-8") == text, "run python tools/manifests.py"
    folders = ("base", "monitoring", "autoscaling")
    there = {
        path.relative_to(KUBERNETES).as_posix()
        for folder in folders
        for path in (KUBERNETES / folder).iterdir()
    }
    assert there == expected.keys()


@pytest.mark.parametrize("changes", [{}, FULL], ids=["plain", "full"])
def test_helm_renders_the_same_objects(changes: dict[str, Any], tmp_path: Path) -> None:
    """Helm, if installed, renders the same objects as our renderer."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("there is no helm here: docs/kubernetes.md says how to get it")
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(changes), "utf-8")
    command = [helm, "template", "odin-ws", str(CHART), "--values", str(values)]
    command += ["--kube-version", "1.34.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [one for one in yaml.safe_load_all(done.stdout) if one is not None]
    assert {(one["kind"], one["metadata"]["name"]): one for one in found} == rendered(changes)


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid_by_the_schemas_of_kubernetes(
    plain: Objects, full: Objects, version: str
) -> None:
    """Each object is valid by the schemas of that version, and has no field unknown to them."""
    ours = [
        one
        for objects in (plain, full)
        for one in objects.values()
        if not one["apiVersion"].startswith("monitoring.coreos.com/")
    ]
    assert len(ours) == 5 + 7
    for one in ours:
        kubernetes_validate.validate(one, version, strict=True)


def test_grace_period_covers_the_drain() -> None:
    """The grace period is preStop, both settings of the drain, and 10 s."""
    drain = {"preStopSeconds": 7, "delaySeconds": 11, "timeoutSeconds": 60}
    sums = []
    for objects in (rendered({}), rendered({"drain": drain})):
        env, server = environ(objects), container(objects)
        before = server["lifecycle"]["preStop"]["sleep"]["seconds"]
        delay = float(env["WS_DRAIN_DELAY_SECONDS"])
        sums.append(before + delay + float(env["WS_DRAIN_TIMEOUT_SECONDS"]))
        assert pod(objects)["terminationGracePeriodSeconds"] == sums[-1] + 10
        ready = server["readinessProbe"]
        assert ready["periodSeconds"] * (ready["failureThreshold"] + 1) < delay
    assert sums == [40, 78]


@pytest.mark.parametrize("name", ["WS_DRAIN_TIMEOUT_SECONDS", "WS_OPS_ADDR", "KAFKA_BROKERS"])
def test_setting_with_a_value_of_its_own_is_rejected(name: str) -> None:
    """It would win over the chart's, and grace period, probes and ports would not follow."""
    changes = json.dumps({"settings": {name: "60"}})
    error = python_error(f"manifests.render(json.loads({changes!r}))")
    assert f"settings.{name} is not allowed" in error


def test_ingress_leads_to_every_path_of_subscribers(full: Objects) -> None:
    """WebSocket, Server-Sent Events and snapshots; nothing else."""
    (rule,) = full["Ingress", "odin-ws"]["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/ws", "/sse", "/snapshot"]


def test_memory_is_requested_as_allowed(plain: Objects) -> None:
    """A node short of memory first evicts pods that use more than they requested."""
    resources = container(plain)["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_probes_use_the_ops_port(plain: Objects) -> None:
    """Liveness never depends on Kafka; readiness does at the start."""
    server = container(plain)
    assert {port["name"]: port["containerPort"] for port in server["ports"]} == {
        "ws": 3002,
        "ops": 3003,
    }
    assert environ(plain)["WS_OPS_ADDR"] == ":3003"
    for probe, path in (
        ("startupProbe", "/health/live"),
        ("livenessProbe", "/health/live"),
        ("readinessProbe", "/health/ready"),
    ):
        assert server[probe]["httpGet"] == {"path": path, "port": "ops"}


def test_environment_consists_of_settings(full: Objects) -> None:
    """Every variable is a setting, and secrets are files of the mounted Secret."""
    known = {setting.name: setting for _, setting in declared_settings()}
    names = known.keys() | {one.file_name for one in known.values() if one.file_name}
    env = environ(full)
    assert env.keys() <= names
    mount = next(mount for mount in container(full)["volumeMounts"] if mount["name"] == "secrets")
    assert env["WS_OPS_TOKEN_FILE"] == f"{mount['mountPath']}/ops-token"
    assert env["KAFKA_SASL_PASSWORD_FILE"] == f"{mount['mountPath']}/kafka-password"
    assert not [name for name in env if name in ("WS_OPS_TOKEN", "KAFKA_SASL_PASSWORD")]
    assert env["WS_TRUSTED_PROXIES"] == "10.0.0.0/8"


def test_container_is_confined(plain: Objects) -> None:
    """No root, no capabilities, a read-only file system, no token of the cluster's API."""
    spec, server = pod(plain), container(plain)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"--uid {spec['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text()
    assert server["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "cpu" not in server["resources"]["limits"]


def test_selectors_match_the_pods(full: Objects) -> None:
    """Services, disruption budget, network policy, spread and autoscaler select these pods."""
    deployment = full["Deployment", "odin-ws"]["spec"]
    labels = deployment["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["selector"]["matchLabels"],
        full["Service", "odin-ws"]["spec"]["selector"],
        full["Service", "odin-ws-ops"]["spec"]["selector"],
        full["PodDisruptionBudget", "odin-ws"]["spec"]["selector"]["matchLabels"],
        full["NetworkPolicy", "odin-ws"]["spec"]["podSelector"]["matchLabels"],
        *(
            constraint["labelSelector"]["matchLabels"]
            for constraint in pod(full)["topologySpreadConstraints"]
        ),
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    monitored = full["ServiceMonitor", "odin-ws"]["spec"]["selector"]["matchLabels"].items()
    assert monitored <= full["Service", "odin-ws-ops"]["metadata"]["labels"].items()
    assert not monitored <= full["Service", "odin-ws"]["metadata"]["labels"].items()
    assert full["HorizontalPodAutoscaler", "odin-ws"]["spec"]["scaleTargetRef"]["name"] == "odin-ws"
    assert "replicas" not in deployment


def test_ops_port_is_open_to_monitoring_only(plain: Objects) -> None:
    """The network policy opens it to one namespace, and no load balancer leads to it."""
    subscribers, monitoring = plain["NetworkPolicy", "odin-ws"]["spec"]["ingress"]
    assert subscribers == {"ports": [{"port": "ws"}]}
    assert monitoring["ports"] == [{"port": "ops"}]
    assert len(monitoring["from"]) == 1
    assert [port["name"] for port in plain["Service", "odin-ws"]["spec"]["ports"]] == ["ws"]
    assert plain["Service", "odin-ws-ops"]["spec"]["clusterIP"] == "None"


def test_autoscaler_leaves_room_for_a_lost_pod(full: Objects) -> None:
    """Its target leaves room for the clients of one lost pod at the minimum of replicas."""
    spec = full["HorizontalPodAutoscaler", "odin-ws"]["spec"]
    aim = int(spec["metrics"][0]["pods"]["target"]["averageValue"])
    fewest = spec["minReplicas"]
    assert aim * fewest / (fewest - 1) <= Settings().ws_max_connections


def test_rules_equal_the_shipped_ones(plain: Objects) -> None:
    """PrometheusRule has the alerts of deploy/prometheus/rules.yml, with its job's name."""
    rules = RULES.read_text("utf-8")
    assert (CHART / "files" / "rules.yml").read_text("utf-8") == rules
    assert plain["PrometheusRule", "odin-ws"]["spec"] == yaml.safe_load(rules)
    label = plain["ServiceMonitor", "odin-ws"]["spec"]["jobLabel"]
    assert plain["Service", "odin-ws-ops"]["metadata"]["labels"][label] == "odin-ws"


def test_chart_has_the_version_of_the_project() -> None:
    """The chart has the version of pyproject.toml."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    tag = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["image"]["tag"]
    line = f'version = "{chart["version"]}"'
    assert line in (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    assert chart["appVersion"] == tag == chart["version"]
