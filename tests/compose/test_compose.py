"""The compose file, as far as it can be checked without a container engine."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from odin_ws.cli import main
from odin_ws.settings import load_settings
from tests.deploy.debian import program

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"

INSTANCES = ("odin-ws-1", "odin-ws-2", "odin-ws-3")
BROKERS = ("redpanda", "kafka")

# `${NAME:-default}` and `${NAME:?what to do}`.
VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = (COMPOSE / ".env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def compose(example: dict[str, str]) -> dict[str, Any]:
    """The compose file as an engine reads it with .env.example."""
    text = (COMPOSE / "compose.yaml").read_text("utf-8")
    found: dict[str, Any] = yaml.safe_load(VARIABLE.sub(lambda one: example[one[1]], text))
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    """The services by name."""
    found: dict[str, Any] = compose["services"]
    return found


def test_example_has_every_variable(example: dict[str, str]) -> None:
    """.env.example has exactly the variables of the compose file, with equal defaults."""
    text = (COMPOSE / "compose.yaml").read_text("utf-8")
    used = {match[1]: match for match in VARIABLE.finditer(text)}
    assert used.keys() | {"COMPOSE_PROFILES"} == example.keys()
    for name, (_, kind, default) in ((name, one.groups()) for name, one in used.items()):
        assert kind == "?" or default == example[name]


def test_each_profile_starts_one_broker(services: dict[str, Any], example: dict[str, str]) -> None:
    """A profile starts one broker, at the name and port that its clients use."""
    profiles = {name: one["profiles"] for name, one in services.items() if "profiles" in one}
    assert profiles == {name: [name] for name in BROKERS}
    assert example["COMPOSE_PROFILES"] == example["BROKER"] == "redpanda"
    for name in (*INSTANCES, "topics", "publisher"):
        assert services[name]["environment"]["KAFKA_BROKERS"] == "redpanda:9092"
    waited = services["topics"]["depends_on"]
    assert waited.keys() == set(BROKERS)
    assert {one["required"] for one in waited.values()} == {False}
    assert any("internal://redpanda:9092" in word for word in services["redpanda"]["command"])
    kafka = services["kafka"]["environment"]
    assert "INTERNAL://kafka:9092" in kafka["KAFKA_ADVERTISED_LISTENERS"]
    assert services["kafka"]["image"] == "apache/kafka:4.3.1"
    assert "4.3.1" in (ROOT / "tests" / "apache_kafka" / "pom.xml").read_text("utf-8")


@pytest.mark.parametrize("name", ["topics", "publisher"])
def test_commands_of_services_exist(services: dict[str, Any], name: str) -> None:
    """The command of each service exists in odin-ws, with its options."""
    done = CliRunner().invoke(main, [*services[name]["command"], "--help"])
    assert done.exit_code == 0, done.output


def test_instances_differ_in_their_ports_only(services: dict[str, Any]) -> None:
    """Three equal instances; health and metrics are published on loopback only."""
    ports = {services[name]["ports"][0] for name in INSTANCES}
    assert ports == {f"127.0.0.1:{port}:3003" for port in (3003, 3004, 3005)}
    first, *others = ({**services[name], "ports": []} for name in INSTANCES)
    assert all(other == first for other in others)


def test_settings_of_the_compose_file_are_valid(services: dict[str, Any]) -> None:
    """The server accepts the environment; the drain fits into the grace period."""
    server = services[INSTANCES[0]]
    settings, unknown = load_settings(server["environment"])
    assert unknown == []
    grace = float(server["stop_grace_period"].removesuffix("s"))
    drain = settings.ws_drain_delay_seconds + settings.ws_drain_timeout_seconds
    assert drain + 10 <= grace
    assert server["environment"]["WS_OPS_HOSTS"].split(",") == list(INSTANCES)
    assert server["ulimits"]["nofile"]["hard"] > settings.ws_max_connections + 2048 + 256


def test_our_services_are_confined(services: dict[str, Any]) -> None:
    """A read-only file system, no capabilities, no new privileges, limits, and an init."""
    for name in (*INSTANCES, "topics", "publisher", "haproxy"):
        service = services[name]
        assert service["init"] is service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
    for name in ("prometheus", "grafana"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in services[name]["security_opt"]


def test_every_service_is_limited(services: dict[str, Any]) -> None:
    """CPU and memory, and the size of its log: Docker keeps logs without a limit otherwise."""
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits.keys() == {"cpus", "memory"}, name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}, name


def test_only_the_subscribers_port_is_public(services: dict[str, Any]) -> None:
    """Every other published port is bound to loopback."""
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["3002:3002"]


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """Every image has a tag with a version."""
    for service in services.values():
        _name, _, tag = service["image"].partition(":")
        assert any(character.isdigit() for character in tag)


def test_haproxy_has_every_instance(compose: dict[str, Any]) -> None:
    """Its configuration names them with their ports, and they trust its address."""
    services = compose["services"]
    proxy = services["haproxy"]
    file = proxy["volumes"][0].partition(":")[0]
    text = (COMPOSE / file).read_text("utf-8")
    assert re.findall(r"(?m)^    server (\S+) (\S+)$", text) == [
        (name, f"{name}:3002") for name in INSTANCES
    ]
    assert "check port 3003" in text
    maximum = int(re.findall(r"maxconn (\d+)", text)[0])
    assert proxy["ulimits"]["nofile"]["hard"] > 2 * maximum
    address = proxy["networks"]["default"]["ipv4_address"]
    (network,) = compose["networks"]["default"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(network["subnet"])
    assert services[INSTANCES[0]]["environment"]["WS_TRUSTED_PROXIES"] == address


def test_prometheus_scrapes_every_instance_with_the_rules(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """Its targets are the ops ports, with the job's name that the rules expect."""
    text = (COMPOSE / "prometheus.yml").read_text("utf-8")
    jobs = {
        config["job_name"]: config["static_configs"]
        for config in yaml.safe_load(text)["scrape_configs"]
    }
    assert jobs["odin-ws"] == [{"targets": [f"{name}:3003" for name in INSTANCES]}]
    assert jobs["haproxy"] == [{"targets": ["haproxy:8404"]}]
    mounted = dict(volume.split(":")[:2] for volume in services["prometheus"]["volumes"])
    assert mounted["./prometheus.yml"] == "/etc/prometheus/prometheus.yml"
    assert mounted["../deploy/prometheus/rules.yml"] == "/etc/prometheus/rules.yml"
    shutil.copy(COMPOSE / "prometheus.yml", tmp_path)
    shutil.copy(RULES, tmp_path)
    command = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_has_dashboard_and_data_source(services: dict[str, Any]) -> None:
    """The provisioning names Prometheus' address, and the folder of the mounted dashboard."""
    folder = COMPOSE / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    scrape = yaml.safe_load((COMPOSE / "prometheus.yml").read_text("utf-8"))["global"]
    assert source["jsonData"]["timeInterval"] == scrape["scrape_interval"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "odin-ws.yaml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounted["../deploy/grafana"] == provider["options"]["path"]
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    for path in (path for path in mounted if path.startswith(".")):
        assert (COMPOSE / path).exists()


def test_services_named_in_the_readme_exist(services: dict[str, Any]) -> None:
    """Each service that the README stops, kills or pauses exists."""
    text = (COMPOSE / "README.md").read_text("utf-8")
    commands = r"docker compose (?:stop|kill|pause|exec|up(?: --\w+)+) ([\w-]+)"
    named = set(re.findall(commands, text))
    assert {"odin-ws-1", "odin-ws-2", "redpanda", "publisher"} <= named <= services.keys()
