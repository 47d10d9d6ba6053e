"""What operators see of a scenario: the ops pages, asked over ASGI."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from odin_ws.ops.app import ops_app
from odin_ws.ops.stats import OpsStats
from odin_ws.service import Service
from odin_ws.testing.scenario import Scenario

__all__ = ["ask", "ask_service", "get", "metric", "metric_names", "metrics", "post"]

# What a family's samples are called behind its name; of a histogram the count is looked at.
_SUFFIX = {"counter": "_total", "gauge": "", "histogram": "_count"}


async def ask(scenario: Scenario, path: str) -> httpx.Response:
    """GET one of a scenario's pages."""
    return await ask_service(scenario.service, path)


async def get(
    scenario: Scenario, path: str, stats: OpsStats | None = None, **how: Any
) -> httpx.Response:
    """GET a page in some way of httpx."""
    transport = httpx.ASGITransport(ops_app(scenario.service, stats=stats))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, **how)


async def post(scenario: Scenario, path: str, **content: Any) -> httpx.Response:
    """POST something, as httpx takes it, to one of a scenario's pages."""
    transport = httpx.ASGITransport(ops_app(scenario.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, **content)


async def ask_service(service: Service, path: str) -> httpx.Response:
    """GET one of the pages of what may not run yet."""
    transport = httpx.ASGITransport(ops_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path)


async def metrics(scenario: Scenario) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    text = (await ask(scenario, "/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metric(scenario: Scenario, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels; 0 where there is none."""
    return sum(
        value
        for (found, its), value in (await metrics(scenario)).items()
        if found == name and its >= labels.items()
    )


async def metric_names(scenario: Scenario) -> set[str]:
    """The name of each metric there is, also of those without a sample yet, process's aside."""
    text = (await ask(scenario, "/metrics")).text
    return {
        family.name + _SUFFIX[family.type]
        for family in text_string_to_metric_families(text)
        if not family.name.startswith("process_")
    }
