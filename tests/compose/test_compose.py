"""The compose file does what it says, as far as that shows without a container engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.kafka import PARTITIONS, TOPICS

COMPOSE = Path(__file__).parents[2] / "compose"

RETENTION_MS = {
    "odin.trades": 30_000,
    "odin.balances": 30_000,
    "odin.liquidity": 60_000,
    "odin.community": 300_000,
    "odin.analytics": 300_000,
    "odin.metadata": 3_600_000,
    "odin.social": 3_600_000,
    "odin.creation": 3_600_000,
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of the compose file, by name."""
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return services


def test_the_topics_job_makes_every_topic(services: dict[str, Any], tmp_path: Path) -> None:
    """Run with an rpk that only notes its arguments, the job asks for the eight topics."""
    rpk = tmp_path / "rpk"
    rpk.write_text('#!/bin/bash\necho "$@"\n', encoding="utf-8")
    rpk.chmod(0o755)
    job = services["topics"]
    # In a compose file `$$` stands for `$`.
    script = [part.replace("$$", "$") for part in job["command"]]
    done = subprocess.run(
        [*job["entrypoint"], *script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    asked: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        words = line.split()
        for topic in (word for word in words if word.startswith("odin.")):
            asked[topic] = words
    assert set(asked) == set(TOPICS) == set(RETENTION_MS)
    for topic, words in asked.items():
        assert words[:2] == ["topic", "create"]
        assert words[words.index("--partitions") + 1] == str(PARTITIONS)
        assert "compression.type=snappy" in words
        assert f"retention.ms={RETENTION_MS[topic]}" in words


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """Every image has a tag, and none is one that moves."""
    for service in services.values():
        _name, _, tag = service["image"].partition(":")
        assert any(character.isdigit() for character in tag)


def test_prometheus_scrapes_the_ops_port(services: dict[str, Any]) -> None:
    """The target is a service of the compose file, at a port that it publishes for ops."""
    config = yaml.safe_load((COMPOSE / "prometheus.yml").read_text(encoding="utf-8"))
    ((target,),) = [
        static["targets"] for job in config["scrape_configs"] for static in job["static_configs"]
    ]
    name, _, port = target.partition(":")
    assert any(published.endswith(f":{port}") for published in services[name]["ports"])
    # The ops port answers other names than loopback's only where it is told them.
    assert services[name]["environment"]["WS_OPS_HOSTS"] == name


def test_the_server_is_confined_and_its_ops_port_this_hosts(services: dict[str, Any]) -> None:
    """Files it can only read, no capability, none to be had; health for this host alone."""
    server = services["odin-ws"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in server["security_opt"]
    assert server["environment"]["WS_OPS_ADDR"] == ":3003"
    (ops,) = [one for one in server["ports"] if one.endswith(":3003")]
    assert ops.startswith("127.0.0.1:")


def test_the_image_runs_as_nobody_of_importance() -> None:
    """A number that is not root's, in the last stage."""
    dockerfile = (COMPOSE.parent / "Dockerfile").read_text("utf-8")
    *_, last = dockerfile.split("\nFROM ")
    (user,) = [line.split()[1] for line in last.splitlines() if line.startswith("USER ")]
    assert int(user) > 0
