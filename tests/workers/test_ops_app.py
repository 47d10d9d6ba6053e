"""The ops pages of all workers together, in virtual time."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from odin_ws import __version__
from odin_ws.ops.request_checks import OpsAuth
from odin_ws.ops.stats import OpsStats
from odin_ws.settings import Secret
from odin_ws.workers.console import WorkersConsole
from odin_ws.workers.ops_app import workers_app
from tests.workers.fakes import Crew, FakeChild, supervising
from tests.workers.test_health import report

OPS_TOKEN = Secret("of the operators")
BEARER = {"Authorization": "Bearer of the operators"}


@attrs.frozen
class Ops:
    """The ops pages of a supervisor of fake workers."""

    crew: Crew
    client: httpx.AsyncClient
    console: WorkersConsole

    async def get(self, path: str) -> httpx.Response:
        """Return the response for a page."""
        return await self.client.get(path)

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        text = (await self.get("/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@asynccontextmanager
async def ops(
    workers: int = 2, token: Secret | None = None, seconds: float = 0
) -> AsyncIterator[Ops]:
    """Pages of workers that all are well.

    `token`: what the pages want; `seconds`: for how long a page is shared.
    """
    crew = Crew()
    async with supervising(crew, workers) as run:
        for number in range(1, workers + 1):
            crew.now(number).says("/health", report() | {"uptime": 1.0})
        stats = OpsStats()
        console = WorkersConsole(run.supervisor, stats, seconds=seconds)
        app = workers_app(run.supervisor, OpsAuth(token=token), stats, console, seconds)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Ops(crew, client, console)


def not_ready(child: FakeChild) -> None:
    """The response of a worker that has not reached Kafka yet."""
    child.says("/health/ready", "not ready: kafka: no broker\n", 503)


async def test_not_ready_until_all_workers_are(autojump_clock: MockClock) -> None:
    """The reason names the worker."""
    async with ops() as seen:
        not_ready(seen.crew.now(2))
        response = await seen.get("/health/ready")
        assert (response.status_code, response.text) == (
            503,
            "not ready: worker 2: kafka: no broker\n",
        )
        seen.crew.now(2).says("/health/ready", "ready\n")
        response = await seen.get("/health/ready")
        assert (response.status_code, response.text) == (200, "ready\n")


async def test_stays_ready_while_one_worker_is(autojump_clock: MockClock) -> None:
    """A replaced worker does not remove the instance from the load balancer."""
    async with ops() as seen:
        assert (await seen.get("/health/ready")).status_code == 200
        not_ready(seen.crew.now(2))
        assert (await seen.get("/health/ready")).status_code == 200
        not_ready(seen.crew.now(1))
        assert (await seen.get("/health/ready")).status_code == 503


async def test_ready_does_not_wait_for_a_worker_that_hangs(autojump_clock: MockClock) -> None:
    """Balancers' checks have time-outs of a second, and would remove the whole instance."""
    async with ops() as seen:
        assert (await seen.get("/health/ready")).status_code == 200
        seen.crew.now(1).hangs = True
        before = trio.current_time()
        assert (await seen.get("/health/ready")).status_code == 200
        assert trio.current_time() - before < 0.1


async def test_drain_is_not_ready_at_once(autojump_clock: MockClock) -> None:
    """Readiness is 503 at once; liveness is 200 until the end."""
    async with ops() as seen:
        for number in (1, 2):
            seen.crew.now(number).drains = False
        seen.crew.stop.set()
        response = await seen.get("/health/ready")
        assert (response.status_code, response.text) == (503, "not ready: draining\n")
        assert (await seen.get("/health/live")).status_code == 200
        for number in (1, 2):
            seen.crew.now(number).exit(0)


async def test_health_lists_each_worker(autojump_clock: MockClock) -> None:
    """With process id, status and restarts."""
    async with ops() as seen:
        response = await seen.get("/health")
        assert response.status_code == 200
        assert response.json()["workers"] == {
            "1": worker(1000),
            "2": worker(2000),
        }


def worker(pid: int, **other: Any) -> dict[str, Any]:
    """Return the health of a healthy worker."""
    usual = {"status": "healthy", "restarts": 0, "connections": 0, "uptime": 1.0}
    return {"pid": pid} | usual | other


async def test_silent_worker_degrades_health(autojump_clock: MockClock) -> None:
    """The report of the other workers is not delayed."""
    async with ops() as seen:
        seen.crew.now(1).hangs = True
        response = await seen.get("/health")
        assert response.status_code == 200
        found = response.json()
        assert found["status"] == "degraded"
        assert found["warnings"] == ["worker 1: does not respond"]
        assert found["workers"]["1"]["status"] == "does not respond"
        assert await seen.metric("ws_worker_up", worker="1") == 0
        assert await seen.metric("ws_worker_up", worker="2") == 1


async def test_replaced_worker_is_listed(autojump_clock: MockClock) -> None:
    """While no process runs, and later by its number of restarts."""
    async with ops() as seen:
        seen.crew.fate = 1
        seen.crew.now(1).exit(1)
        await trio.sleep(300)
        found = (await seen.get("/health")).json()
        assert found["warnings"] == ["worker 1: is being replaced"]
        assert found["workers"]["1"]["pid"] is None
        assert found["workers"]["1"]["restarts"] > 10
        assert await seen.metric("ws_worker_restarts_total", worker="1") > 10
        assert await seen.metric("ws_worker_restarts_total", worker="2") == 0


async def test_unhealthy_worker_makes_503(autojump_clock: MockClock) -> None:
    """The supervisor reads the worker's report although its status is 503."""
    async with ops() as seen:
        ill = report() | {"errors": ["kafka: away"], "healthy": False, "uptime": 1.0}
        seen.crew.now(2).says("/health", ill, 503)
        response = await seen.get("/health")
        assert response.status_code == 503
        assert response.json()["errors"] == ["worker 2: kafka: away"]


async def test_metrics_are_merged_and_current(autojump_clock: MockClock) -> None:
    """They are requested for the page, not those of the last check."""
    async with ops() as seen:
        seen.crew.now(1).counts(100, connections=3)
        seen.crew.now(2).counts(10, connections=4)
        assert await seen.metric("ws_messages_sent_total") == 110
        assert await seen.metric("ws_connections_active") == 7
        assert await seen.metric("ws_worker_connections_active", worker="2") == 4
        assert await seen.metric("ws_workers") == 2
        assert await seen.metric("process_open_fds") > 0


async def test_clients_are_merged(autojump_clock: MockClock) -> None:
    """The limit applies to all workers together."""
    async with ops() as seen:
        for number, backlog in ((1, 5), (2, 9)):
            page = {
                "totals": {"connections": 1, "backlog_bytes": backlog},
                "clients": [{"peer": "a", "backlog_bytes": backlog, "connected_seconds": 1}],
            }
            seen.crew.now(number).says("/clients?limit=20", page)
        found = (await seen.get("/clients?limit=1")).json()
        assert found["totals"] == {"connections": 2, "backlog_bytes": 14}
        assert [client["worker"] for client in found["clients"]] == [2]


@pytest.mark.parametrize("query", ["limit=0", "limit=many", "order=seq"])
async def test_invalid_query_is_rejected(autojump_clock: MockClock, query: str) -> None:
    """With the response of one worker, but without a request to any."""
    async with ops() as seen:
        response = await seen.get(f"/clients?{query}")
        assert response.status_code == 400
        assert "limit" in response.text


ORDER = b'{"user":"ann"}'


async def test_revocation_is_sent_to_every_worker(autojump_clock: MockClock) -> None:
    """The response has the sum of closed connections."""
    async with ops(token=OPS_TOKEN) as one:
        children = [one.crew.now(number) for number in (1, 2)]
        for closed, child in enumerate(children, 1):
            child.says("/revocations", {"user": "ann", "until": 7, "closed": closed})
        response = await one.client.post("/revocations", content=ORDER, headers=BEARER)
        assert response.json() == {"user": "ann", "until": 7, "closed": 3}
        assert [child.posted for child in children] == [[ORDER], [ORDER]]


async def test_revocation_without_a_response_is_503_and_can_be_repeated(
    autojump_clock: MockClock,
) -> None:
    """The user could still connect to the silent worker."""
    async with ops(token=OPS_TOKEN) as one:
        one.crew.now(1).says("/revocations", {"user": "ann", "until": 7, "closed": 1})
        one.crew.now(2).rejects = True
        response = await one.client.post("/revocations", content=ORDER, headers=BEARER)
        assert (response.status_code, response.text) == (
            503,
            "worker 2 does not respond: post it again\n",
        )


async def test_rejection_of_a_revocation_is_passed_on(autojump_clock: MockClock) -> None:
    """All workers send the same rejection."""
    async with ops(token=OPS_TOKEN) as one:
        for number in (1, 2):
            one.crew.now(number).says("/revocations", "until: a number, epoch seconds\n", 400)
        response = await one.client.post("/revocations", content=b"{}", headers=BEARER)
        assert (response.status_code, response.text) == (400, "until: a number, epoch seconds\n")


async def test_revocation_without_ops_token_reaches_no_worker(autojump_clock: MockClock) -> None:
    """A flood of unauthorized requests costs the workers nothing."""
    async with ops() as one:
        response = await one.client.post("/revocations", content=ORDER)
        assert (response.status_code, response.text) == (
            403,
            "WS_OPS_TOKEN is not set: revocation is disabled\n",
        )
        assert one.crew.now(1).posted == []


async def test_pages_require_the_ops_token(autojump_clock: MockClock) -> None:
    """Probes do not."""
    async with ops(token=OPS_TOKEN) as one:
        for path in ("/health", "/metrics", "/clients"):
            assert (await one.get(path)).status_code == 401
        assert (await one.client.post("/revocations", content=ORDER)).status_code == 401
        assert one.crew.now(1).posted == []
        for path in ("/health/live", "/health/ready"):
            assert (await one.get(path)).status_code == 200
        assert (await one.client.get("/health", headers=BEARER)).status_code == 200


async def test_workers_get_one_request_per_page_and_second(autojump_clock: MockClock) -> None:
    """For any number of clients of the supervisor's port."""
    async with ops(seconds=1) as seen:
        for number in (1, 2):
            seen.crew.now(number).says("/clients?limit=20", {"totals": {}, "clients": []})
        worker = seen.crew.now(1)
        for path in ("/metrics", "/health", "/health/ready", "/clients"):
            before = worker.asked
            for _ in range(50):
                assert (await seen.get(path)).status_code == 200
            assert worker.asked == before + 1
            await trio.sleep(1)
            before = worker.asked
            await seen.get(path)
            assert worker.asked > before


async def test_drain_is_visible_despite_cached_pages(autojump_clock: MockClock) -> None:
    """Load balancers must notice it within WS_DRAIN_DELAY_SECONDS."""
    async with ops(seconds=1) as seen:
        assert (await seen.get("/health/ready")).status_code == 200
        for number in (1, 2):
            seen.crew.now(number).drains = False
        seen.crew.stop.set()
        assert (await seen.get("/health/ready")).status_code == 503
        for number in (1, 2):
            seen.crew.now(number).exit(0)


async def test_supervisor_metrics_are_included(
    autojump_clock: MockClock,
) -> None:
    """Even if no worker responds."""
    async with ops() as seen:
        for number in (1, 2):
            seen.crew.now(number).rejects = True
        first, *_ = (await seen.get("/")).text.splitlines()
        assert first.startswith(f"odin-ws {__version__}, Python ")
        assert (await seen.get("/health")).json()["version"] == __version__
        assert await seen.metric("odin_ws_build_info", version=__version__) == 1
        await seen.get("/elsewhere")
        await seen.client.get("/metrics", headers={"Host": "evil.example"})
        rejected = {
            reason: await seen.metric("ws_ops_requests_rejected_total", reason=reason)
            for reason in ("not_found", "bad_host", "cross_site")
        }
        assert rejected == {"not_found": 1, "bad_host": 1, "cross_site": 0}
