"""Several workers on one port: real processes, real signals, and clients on each worker."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import trio
from websockets.exceptions import InvalidStatus

from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, is_free
from tests.integration import kafka
from tests.integration.events import event, numbers
from tests.integration.running_source import Publisher, until, wait_until
from tests.integration.servers import Client, Server, connected, run_to_the_end, serving

# All clients are on one of two workers once in a thousand runs of a thousand tests.
CROWD = 20

CHANNELS = ["BTC.trade"]


@pytest.fixture
async def broker() -> AsyncIterator[str]:
    """The address of a broker that has Odin's topics."""
    async with embedded_broker() as running:
        await kafka.create_topics(running.bootstrap)
        yield running.bootstrap


def two_workers(broker: str, **settings: str) -> Any:
    """A server of two workers."""
    return serving(broker, {"WS_WORKERS": "2", "KAFKA_FETCH_MAX_WAIT_SECONDS": "0.05"} | settings)


@asynccontextmanager
async def crowd(server: Server) -> AsyncIterator[list[Client]]:
    """Clients on both workers, all with the same subscription."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(CROWD)]
        for client in clients:
            await client.subscribe(channels=CHANNELS, positions=True)
        shares = [worker["connections"] for worker in (await workers(server)).values()]
        assert sum(shares) == CROWD
        assert all(shares)
        yield clients


async def workers(server: Server) -> dict[str, Any]:
    """The workers in the health report."""
    found: dict[str, Any] = (await server.health())["workers"]
    return found


def processes(server: Server) -> list[psutil.Process]:
    """The workers' processes."""
    return psutil.Process(server.process.pid).children()


def trades(count: int, first: int = 0) -> list[Any]:
    """Records for everybody."""
    return [event("BTC", "trade", number=number) for number in range(first, first + count)]


async def test_killed_worker_is_replaced_and_its_clients_lose_no_record(broker: str) -> None:
    """Other workers' clients notice nothing; those of the killed one resume, each record once."""
    async with two_workers(broker) as server, crowd(server) as clients:
        publisher = Publisher(broker)
        await publisher.publish(trades(10))
        for client in clients:
            await client.received(10)
        sent = await server.metric("ws_messages_sent_total")
        victim = (await workers(server))["1"]
        psutil.Process(victim["pid"]).kill()
        await wait_until(lambda: len(lost_of(clients)) == victim["connections"])
        await publisher.publish(trades(10, first=10))
        back = [client async for client in returned(server, lost_of(clients))]
        for client in clients:
            if client.closed is None:
                await client.received(20)
                client.check_sequence()
                assert numbers(client) == list(range(20))
        assert back == [list(range(10, 20))] * victim["connections"]
        await until(lambda: replaced(server, "1", victim["pid"]))
        assert (await server.get("/health/ready")).status_code == 200
        assert await server.metric("ws_worker_restarts_total", worker="1") == 1
        assert await server.metric("ws_worker_restarts_total", worker="2") == 0
        assert await server.metric("ws_messages_sent_total") > sent


def lost_of(clients: Sequence[Client]) -> list[Client]:
    """Clients whose connection broke."""
    return [client for client in clients if client.closed is not None]


async def returned(server: Server, lost: Sequence[Client]) -> AsyncIterator[list[int]]:
    """Resume for each of these, at any worker, and return what it receives."""
    for client in lost:
        positions: dict[str, int] = {}
        for message in client.messages:
            partition, _, offset = message["pos"].partition("-")
            positions[partition] = int(offset)
        async with connected(server) as again:
            response = await again.command(
                "resume", channels=CHANNELS, positions={"odin.trades": positions}
            )
            assert response["recovered"], response
            await again.received(10)
            await again.command("heartbeat")
            yield numbers(again)


async def replaced(server: Server, number: str, pid: int) -> bool:
    """Whether a worker runs again, and is healthy."""
    worker = (await workers(server))[number]
    return (worker["status"], worker["pid"] == pid) == ("healthy", False)


@pytest.mark.parametrize(
    ("number", "who"),
    [
        (signal.SIGTERM, "everybody"),
        (signal.SIGINT, "supervisor"),
        pytest.param(signal.SIGTERM, "supervisor", marks=pytest.mark.long),
        pytest.param(signal.SIGINT, "everybody", marks=pytest.mark.long),
    ],
)
async def test_signal_drains_all_workers(broker: str, number: signal.Signals, who: str) -> None:
    """Readiness ends at once, each client of each worker is closed with 1012; exit status 0.

    This also holds if the signal goes to all processes, as systemd sends it.
    """
    async with two_workers(broker, WS_DRAIN_DELAY_SECONDS="1") as server:
        async with crowd(server) as clients:
            for process in processes(server) if who == "everybody" else []:
                process.send_signal(number)
            server.signal(number)
            await server.responses("/health/ready", 503)
            assert (await server.get("/health/live")).status_code == 200
            for client in clients:
                assert await client.ended() == (1012, "the server is restarting")
        assert await server.ended() == 0
        assert "Traceback" not in server.output
        assert sum(line["disconnects"] for line in server.events("stopped")) == CROWD


async def test_second_signal_ends_all_workers_at_once(broker: str) -> None:
    """Status 1, and no process is left."""
    async with two_workers(broker, WS_DRAIN_DELAY_SECONDS="60") as server, crowd(server) as clients:
        left = processes(server)
        server.signal(signal.SIGTERM)
        await wait_until(lambda: len(server.events("draining")) == 2)
        server.signal(signal.SIGTERM)
        assert await server.ended(10) == 1
        assert "Traceback" not in server.output
        assert not any(process.is_running() for process in left)
        for client in clients:
            await client.ended()


async def test_workers_drain_after_a_kill_of_their_supervisor(broker: str) -> None:
    """After a SIGKILL of the supervisor they drain by themselves, and the port is free again."""
    async with two_workers(broker) as server, crowd(server) as clients:
        left = processes(server)
        server.process.kill()
        for client in clients:
            assert await client.ended() == (1012, "the server is restarting")
        await wait_until(lambda: not any(process.is_running() for process in left))
        assert is_free(server.port)


async def test_killed_supervisor_leaves_no_file(broker: str, tmp_path: Path) -> None:
    """It creates none, because nothing could remove them after SIGKILL."""
    async with two_workers(broker, TMPDIR=str(tmp_path)) as server, crowd(server):
        left = processes(server)
        server.process.kill()
        await wait_until(lambda: not any(process.is_running() for process in left))
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- a moment


async def test_pages_of_a_worker_require_the_internal_token(broker: str) -> None:
    """Other processes see the socket's name, and get 401 with or without WS_OPS_TOKEN."""
    for token in ("", "s" * 20):
        async with two_workers(broker, WS_OPS_TOKEN=token) as server:
            names = worker_sockets(server)
            assert len(names) == 2
            for name in names:
                transport = httpx.AsyncHTTPTransport(uds=name)
                async with httpx.AsyncClient(transport=transport) as stranger:
                    headers = {"Authorization": f"Bearer {token}"} if token else {}
                    response = await stranger.get("http://localhost/clients", headers=headers)
                    assert response.status_code == 401


def worker_sockets(server: Server) -> list[str]:
    """The names of the workers' ops sockets."""
    found = {
        str(connection.laddr)
        for process in processes(server)
        for connection in process.net_connections("unix")
    }
    return [name.replace("@", "\0") for name in found if "odin-ws-" in name]


async def test_sigterm_to_one_worker_drains_it_alone(broker: str) -> None:
    """SIGTERM to a worker drains only this one; it is replaced, and the others' clients stay."""
    async with two_workers(broker) as server, crowd(server) as clients:
        victim = (await workers(server))["2"]
        psutil.Process(victim["pid"]).terminate()
        await wait_until(lambda: len(lost_of(clients)) == victim["connections"])
        assert {client.closed for client in lost_of(clients)} == {
            (1012, "the server is restarting")
        }
        await until(lambda: replaced(server, "2", victim["pid"]))
        assert len(lost_of(clients)) == victim["connections"]
        assert (await server.get("/health/ready")).status_code == 200


async def test_ops_pages_cover_all_workers(broker: str) -> None:
    """Messages and connections are summed; each worker reads every record."""
    async with two_workers(broker, WS_MAX_CONNECTIONS="101") as server, crowd(server) as clients:
        await Publisher(broker).publish(trades(50))
        for client in clients:
            await client.received(50)
        assert await server.metric("ws_messages_sent_total") == 50 * CROWD
        assert await server.metric("ws_kafka_messages_received_total") == 2 * 50
        assert await server.metric("ws_connections_active") == CROWD
        assert await server.metric("ws_connections_max") == 101
        assert await server.metric("ws_worker_up") == await server.metric("ws_workers") == 2
        assert await server.metric("ws_kafka_connected") == 1
        report = await server.health()
        assert report["status"] == "healthy"
        assert report["checks"]["capacity"]["max"] == 101
        page = (await server.get("/clients?limit=1000")).json()
        assert page["totals"]["connections"] == len(page["clients"]) == CROWD
        assert {client["worker"] for client in page["clients"]} == {1, 2}
        # Log lines name their worker.
        assert sorted(line["worker"] for line in server.events("serving")) == [1, 2]


async def test_connection_limit_is_divided_between_workers(broker: str) -> None:
    """All workers together accept no more than WS_MAX_CONNECTIONS."""
    async with two_workers(broker, WS_MAX_CONNECTIONS="2") as server, AsyncExitStack() as stack:
        for _ in range(20):
            with suppress(InvalidStatus):
                await stack.enter_async_context(connected(server))
        assert await server.metric("ws_connections_active") == 2
        assert (await server.metric("ws_capacity_rejections_total")) == 18


@pytest.mark.parametrize(
    ("settings", "words", "line"),
    [
        ({"KAFKA_ASSIGNMENT": "group"}, ["--workers", "2"], "must be all with WS_WORKERS=2"),
        ({}, ["--workers", "0"], "WS_WORKERS=0: must be an integer, 1 to 256 (processes)"),
        ({"WS_MAX_CONNECTIONS": "3"}, ["--workers", "4"], "WS_MAX_CONNECTIONS=3: "),
        ({"WS_WORKERS": "two"}, [], "WS_WORKERS=two: must be an integer"),
    ],
)
async def test_invalid_workers_setting_stops_the_start_with_one_line(
    settings: dict[str, str], words: list[str], line: str
) -> None:
    """Status 2 and one line, before any worker is started."""
    status, output = await run_to_the_end(settings, words=words)
    assert status == 2
    assert line in output
    assert len(output.splitlines()) == 1


async def test_option_overrides_the_setting(broker: str) -> None:
    """With one worker the server is a single process."""
    async with serving(broker, {"WS_WORKERS": "2"}, words=["--workers", "1"]) as server:
        assert processes(server) == []
        assert "workers" not in await server.health()


async def test_port_in_use_is_reported_once() -> None:
    """The supervisor finds it before any worker is started."""
    with trio.socket.socket() as taken:
        await taken.bind((LOOPBACK, 0))
        taken.listen()
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        status, output = await run_to_the_end({"WS_WORKERS": "2", "WS_ADDR": address})
    assert status == 1
    assert output.count(f"odin-ws: cannot listen at {address}: Address already in use") == 1
    assert "Traceback" not in output
