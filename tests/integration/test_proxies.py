"""The shipped configurations of HAProxy and nginx in front of real instances."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import trio
from websockets.trio.client import connect

from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.chaos import haproxy as balancers
from tests.chaos.haproxy import haproxy
from tests.deploy.debian import program
from tests.integration.domain import Domain
from tests.integration.kafka import create_topics
from tests.integration.running_source import Publisher, until
from tests.integration.servers import Client, Server, serving

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx" / "odin-ws.conf"

# nginx needs this beside the shipped file, which belongs into `http`.
AROUND = """\
daemon off;
pid {home}/pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/odin-ws.conf;
}}
"""

# The clients' address: loopback, but not the address from which proxies connect.
CLIENT = "127.0.0.9"
FORGED = "198.51.100.7"

STOP_SECONDS = 5
WAIT_SECONDS = 30

Proxy = Callable[[Path, Sequence[Server]], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def nginx(home: Path, servers: Sequence[Server]) -> AsyncIterator[int]:
    """Run nginx with the shipped file and other addresses; the port is a free one."""
    command = program("nginx")
    (port,) = free_ports(1)
    lines = [
        f"    server {LOOPBACK}:{server.port} max_fails=1 fail_timeout=5s;\n" for server in servers
    ]
    text, upstreams = re.subn(
        r"(^    server 10\..*\n)+", "".join(lines), SHIPPED.read_text("utf-8"), flags=re.MULTILINE
    )
    text, listens = re.subn(r"listen 80;", f"listen {LOOPBACK}:{port};", text)
    assert (upstreams, listens) == (1, 1)
    (home / "odin-ws.conf").write_text(text, "utf-8")
    (home / "nginx.conf").write_text(AROUND.format(home=home), "utf-8")
    process = ChildProcess([command, "-c", str(home / "nginx.conf")], home / "log")

    async def listens_now() -> bool:
        assert process.running, process.tail()
        try:
            await (await trio.open_tcp_stream(LOOPBACK, port)).aclose()
        except OSError:
            return False
        return True

    try:
        await process.start()
        await until(listens_now, WAIT_SECONDS)
        yield port
    finally:
        with trio.CancelScope(shield=True):  # bounded by STOP_SECONDS
            await process.end(STOP_SECONDS)


@asynccontextmanager
async def shipped_haproxy(home: Path, servers: Sequence[Server]) -> AsyncIterator[int]:
    """Run HAProxy with the shipped file and other addresses."""
    instances = [(f"odin-ws-{n}", one.port, one.ops_port) for n, one in enumerate(servers)]
    async with haproxy(program("haproxy"), home, instances) as balancer:
        yield balancer.port


PROXIES: list[Proxy] = [shipped_haproxy, nginx]


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[Client]:
    """A client at another address, which forges a third one in its headers."""
    stream = await trio.open_tcp_stream(LOOPBACK, port, local_address=CLIENT)
    headers = {"X-Forwarded-For": FORGED, "Forwarded": f"for={FORGED}"}
    uri = f"ws://{LOOPBACK}:{port}/ws"
    async with (
        connect(uri, stream=stream, proxy=None, additional_headers=headers) as websocket,
        trio.open_nursery() as nursery,
    ):
        client = Client(websocket)
        nursery.start_soon(client.read)
        yield client
        nursery.cancel_scope.cancel()


@pytest.fixture
async def servers(embedded: str, domain: Domain) -> AsyncIterator[tuple[Server, Server]]:
    """Two instances that trust proxies on this machine."""
    await create_topics(embedded, domain.topics, 1)
    settings = domain.settings | {
        "WS_TRUSTED_PROXIES": LOOPBACK,
        "WS_DRAIN_DELAY_SECONDS": "1",
        "WS_MAX_CONNECTIONS": "1",
    }
    async with serving(embedded, settings) as one, serving(embedded, settings) as other:
        yield one, other


@pytest.mark.parametrize("proxy", PROXIES, ids=["haproxy", "nginx"])
async def test_clients_behind_a_proxy_are_served_with_their_addresses(
    proxy: Proxy, servers: tuple[Server, Server], embedded: str, domain: Domain, tmp_path: Path
) -> None:
    """They get messages, and the server has their real addresses, whatever their headers say.

    Each instance accepts one client: the second client is served by the other instance; when one
    drains, a new client must reach the remaining one.
    """
    async with proxy(tmp_path, servers) as port, proxied(port) as first:
        await first.subscribe(channels=["*.*"])
        async with proxied(port) as second:
            await second.subscribe(channels=["*.*"])
            await Publisher(embedded).publish([domain.record(domain.trade, 1)])
            await first.received(1)
            await second.received(1)
            assert [await _peers(server) for server in servers] == [[CLIENT], [CLIENT]]
        drained, left = await _drained(servers, first)
        async with proxied(port) as third:
            await third.subscribe(channels=["*.*"])
            assert await _peers(left) == [CLIENT]
        assert await drained.ended() == 0


async def test_quiet_event_stream_stays_open_behind_haproxy(
    embedded: str, domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream without records lasts longer than the timeouts that hold until the response.

    These are shortened to 0.5 s; the server's comments come every 30 s.
    """
    shipped = balancers.SHIPPED.read_text("utf-8")
    quick, count = re.subn(r"timeout (client|server) \d+s", r"timeout \1 500ms", shipped)
    assert count == 2
    monkeypatch.setattr(balancers, "SHIPPED", tmp_path / "quick.cfg")
    balancers.SHIPPED.write_text(quick, "utf-8")
    await create_topics(embedded, domain.topics, 1)
    settings = domain.settings | {"WS_TRUSTED_PROXIES": LOOPBACK}
    async with (
        serving(embedded, settings) as server,
        shipped_haproxy(tmp_path, [server]) as port,
        await trio.open_tcp_stream(LOOPBACK, port) as stream,
    ):
        await stream.send_all(b"GET /sse?channels=*.trade HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await _received(stream, b'"type":"subscription_ack"')
        await trio.sleep(2)
        await Publisher(embedded).publish([domain.record(domain.trade, 1)])
        await _received(stream, b'"type":"message"')


async def _received(stream: trio.SocketStream, text: bytes) -> None:
    """Read until this text has come."""
    data = b""
    with trio.fail_after(WAIT_SECONDS):
        while text not in data:
            more = await stream.receive_some()
            assert more, data
            data += more


async def _drained(servers: tuple[Server, Server], client: Client) -> tuple[Server, Server]:
    """Drain the instance that has this client; returns it and the other one."""

    async def one_is_left() -> bool:
        return sum([len(await _peers(server)) for server in servers]) == 1

    await until(one_is_left, WAIT_SECONDS)
    one, other = servers
    drained, left = (one, other) if await _peers(one) else (other, one)
    drained.signal(signal.SIGTERM)
    assert (await client.ended())[0] == 1012
    return drained, left


async def _peers(server: Server) -> list[str]:
    clients = (await server.get("/clients")).json()["clients"]
    return [client["peer"] for client in clients]
