"""The ops pages of one process: version, sharing, and lists in slices."""

from __future__ import annotations

import platform

import httpx
import pytest
import trio

from odin_ws import __version__
from odin_ws.lifecycle import ServiceState
from odin_ws.ops.app import ops_app
from odin_ws.ops.clients import clients_report
from odin_ws.service import Service
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric, ops_request


async def test_index_has_version_and_pages(odin_scenario: Scenario) -> None:
    """Every listed page exists."""
    first, *pages = (await ops_request(odin_scenario, "/")).text.splitlines()
    assert first == f"odin-ws {__version__}, Python {platform.python_version()}"
    assert "/metrics" in pages
    for page in pages:
        assert (await ops_request(odin_scenario, page)).status_code == 200


async def test_health_has_the_version(odin_scenario: Scenario) -> None:
    """The version of the installed wheel."""
    assert (await ops_request(odin_scenario, "/health")).json()["version"] == __version__


async def test_metrics_have_version_and_python_as_labels(odin_scenario: Scenario) -> None:
    """Prometheus' own exporters do the same."""
    labels = {"version": __version__, "python": platform.python_version()}
    assert await metric(odin_scenario, "odin_ws_build_info", **labels) == 1


@pytest.mark.parametrize("path", ["/metrics", "/health", "/clients?limit=7"])
async def test_page_is_shared_for_a_second(odin_scenario: Scenario, path: str) -> None:
    """A new connection appears a second later."""
    transport = httpx.ASGITransport(ops_app(odin_scenario.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        pages = {(await client.get(path)).content}
        await odin_scenario.connect()
        for _ in range(50):
            pages.add((await client.get(path)).content)
        assert len(pages) == 1
        await trio.sleep(1)
        pages.add((await client.get(path)).content)
        assert len(pages) == 2


async def test_client_lists_of_all_limits_share_two_reports(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand limits do not cause a thousand walks over all connections."""
    built = []

    async def report(_service: Service, limit: int) -> dict[str, object]:
        built.append(limit)
        return {"totals": {}, "clients": [{"n": number} for number in range(min(limit, 30))]}

    monkeypatch.setattr("odin_ws.ops.app.clients_report", report)
    transport = httpx.ASGITransport(ops_app(odin_scenario.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for limit in range(1, 1001):
            page = (await client.get(f"/clients?limit={limit}")).json()
            assert [client["n"] for client in page["clients"]] == list(range(min(limit, 30)))
    assert built == [20, 1000]


async def test_readiness_is_not_cached_during_a_drain(odin_scenario: Scenario) -> None:
    """WS_DRAIN_DELAY_SECONDS is 1 by default, as long as pages are cached."""
    await trio.sleep(1)
    transport = httpx.ASGITransport(ops_app(odin_scenario.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/health/ready")).status_code == 200
        odin_scenario.service.lifecycle.enter(ServiceState.DRAINING)
        assert (await client.get("/health/ready")).status_code == 503


async def test_list_of_many_clients_is_built_in_slices(odin_scenario: Scenario) -> None:
    """Other tasks run in between; a connection may end meanwhile."""
    service = odin_scenario.service
    clients = [await odin_scenario.connect() for _ in range(500)]
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1
            if passes == 2:
                service.server.connections.clear()

    connections = set(service.server.connections)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        report = await clients_report(service, 1000)
        nursery.cancel_scope.cancel()
    service.server.connections |= connections
    assert report["totals"]["connections"] == len(report["clients"]) == len(clients)
    assert passes >= 4
