"""docs/migrating.md is right about metrics, health fields and reasons kept or gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.docs.pages import page, read_table
from tests.docs.test_tables import all_metrics
from tests.scenarios.ops import ops_request

PAGE = page("docs/migrating.md")

NAME = re.compile(r"`([^`]+)`")


@pytest.fixture
async def metrics(tmp_path: Path) -> set[str]:
    """Every metric with its labels in alphabetical order."""
    return {normalized(name) for name in all_metrics(tmp_path)}


def normalized(metric: str) -> str:
    """Return a metric with its labels in alphabetical order."""
    name, brace, labels = metric.rstrip("}").partition("{")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}}" if brace else name


def paths(value: Any, path: str = "") -> set[str]:
    """The path of every field in a JSON object, also of objects in it."""
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        found |= {here} | paths(inner, here)
    return found


async def test_former_metrics(metrics: set[str]) -> None:
    """Each metric of the Go server is kept, has a new name that exists, or is gone."""
    plain = {name.partition("{")[0] for name in metrics}
    rows = read_table(PAGE, "former metrics")
    assert len(rows) == 37
    for former, now, note in rows:
        name = NAME.findall(former)[0]
        if now == "same":
            assert normalized(name) in metrics, name
        elif now == "gone":
            assert name.partition("{")[0] not in plain, name
        else:
            assert normalized(now.strip("`")) in metrics, now
            assert normalized(now.strip("`")) != normalized(name)
        for expression in NAME.findall(note):
            assert set(re.findall(r"\bws_\w+", expression)) <= plain, expression


async def test_former_health_fields(odin_scenario: Scenario) -> None:
    """Each field of the Go server is kept, has a new path that exists, or is gone."""
    there = paths((await ops_request(odin_scenario, "/health")).json())
    rows = read_table(PAGE, "health fields")
    for former, now, _ in rows:
        fields = set(NAME.findall(former))
        if now == "same":
            assert fields <= there
        elif now == "gone":
            assert not fields & there
        else:
            assert not fields & there
            assert now.strip("`") in there
    assert "checks.limits.cpu_cores" in there


def test_former_reasons() -> None:
    """Each reason of the Go server has one of ours in its path, or none."""
    ours = {reason.value.label for reason in DisconnectReason}
    for former, now in read_table(PAGE, "former reasons"):
        assert former.strip("`") not in ours
        assert now.startswith("gone") or now.strip("`") in ours
