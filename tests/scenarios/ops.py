"""Requests to a scenario's ops pages, over ASGI."""

from __future__ import annotations

from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from odin_ws.ops.app import ops_app
from odin_ws.ops.stats import OpsStats
from odin_ws.service import Service
from odin_ws.testing.scenario import Scenario

__all__ = ["get", "metric", "metric_names", "metrics", "ops_request", "post", "service_request"]

# Suffixes of the samples by type of metric; for a histogram the name of its count.
_SUFFIX = {"counter": "_total", "gauge": "", "histogram": "_count"}


async def ops_request(scenario: Scenario, path: str) -> httpx.Response:
    """GET one of a scenario's pages."""
    return await service_request(scenario.service, path)


async def get(
    scenario: Scenario, path: str, stats: OpsStats | None = None, **options: Any
) -> httpx.Response:
    """GET a page, with further arguments of httpx."""
    transport = httpx.ASGITransport(ops_app(scenario.service, stats=stats))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, **options)


async def post(scenario: Scenario, path: str, **content: Any) -> httpx.Response:
    """POST to one of a scenario's pages, with further arguments of httpx."""
    transport = httpx.ASGITransport(ops_app(scenario.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post(path, **content)


async def service_request(service: Service, path: str) -> httpx.Response:
    """GET a page of a service that may not have started."""
    transport = httpx.ASGITransport(ops_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path)


async def metrics(scenario: Scenario) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return each sample by its name and labels."""
    text = (await ops_request(scenario, "/metrics")).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def metric(scenario: Scenario, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels; 0 without samples."""
    return sum(
        value
        for (found, its), value in (await metrics(scenario)).items()
        if found == name and its >= labels.items()
    )


async def metric_names(scenario: Scenario) -> set[str]:
    """Return the names of all metrics except `process_*`, also of those without samples."""
    text = (await ops_request(scenario, "/metrics")).text
    return {
        family.name + _SUFFIX[family.type]
        for family in text_string_to_metric_families(text)
        if not family.name.startswith("process_")
    }
