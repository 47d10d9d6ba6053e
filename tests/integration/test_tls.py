"""TLS on a real socket, with independent clients; the certificate changes meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import httpx
import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration.running_source import PATIENCE, until, wait_until
from tests.integration.servers import Server, run_to_the_end, serving, started
from tests.listener.certificates import Authority
from tests.plain_http import plain_client

NOTHING_READ: Final = "SIGHUP ignored: no TLS certificate configured"
# Before what trustme gives by itself.
RENEWED = datetime(2099, 1, 1, tzinfo=UTC)
EXPIRES = "ws_tls_certificate_expires_timestamp_seconds"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """The issuer of the server's certificates."""
    return Authority(tmp_path)


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[Server]:
    """A server with TLS; it needs no Kafka for these tests."""
    (nobody,) = free_ports(1)
    tls = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}
    async with serving(f"{LOOPBACK}:{nobody}", tls, ready=False) as running:
        yield running


def dial(server: Server, authority: Authority) -> connect:
    """A WebSocket client that verifies the certificate."""
    context = authority.client_context()
    return connect(f"wss://{LOOPBACK}:{server.port}/ws", ssl=context, proxy=None)


async def request(websocket: ClientConnection) -> str:
    """Return the response to a command."""
    await websocket.send('{"type":"heartbeat"}')
    with trio.fail_after(PATIENCE):
        return str(await websocket.recv())


async def read_on(websocket: ClientConnection) -> None:
    """Receive until the connection ends."""
    while True:
        await websocket.recv()


async def serial(server: Server, authority: Authority) -> object:
    """The serial number of the certificate for new connections."""
    stream = await trio.open_ssl_over_tcp_stream(
        LOOPBACK, server.port, ssl_context=authority.client_context(), https_compatible=True
    )
    async with stream:
        await stream.do_handshake()
        certificate = stream.getpeercert()
        assert certificate is not None
        return certificate["serialNumber"]


async def test_client_is_served_over_tls(server: Server, authority: Authority) -> None:
    """With the configured certificate and key, small and large responses."""
    async with dial(server, authority) as websocket:
        assert "pong" in await request(websocket)
        names = ", ".join(f'"{number}{"x" * 100}.trade"' for number in range(500))
        await websocket.send(f'{{"type":"subscribe","data":{{"channels":[{names}]}}}}')
        response = str(await websocket.recv())
        assert len(response) > 50_000
        assert "subscription_ack" in response
    with pytest.raises(trio.BrokenResourceError):
        async with connect(f"wss://{LOOPBACK}:{server.port}/ws", proxy=None):
            pass


async def test_rejection_is_sent_over_tls(server: Server, authority: Authority) -> None:
    """Status and text are those without TLS."""
    async with httpx.AsyncClient(verify=authority.client_context(), trust_env=False) as client:
        response = await client.get(f"https://{LOOPBACK}:{server.port}/elsewhere")
    assert response.status_code == 404
    assert response.text == "not found; the WebSocket is at /ws, Server-Sent Events are at /sse\n"


async def test_plain_http_on_a_tls_port_gets_an_explanation(server: Server) -> None:
    """The response is plain HTTP; the connection is counted."""
    async with plain_client(5) as client:
        response = await client.get(f"http://{LOOPBACK}:{server.port}/ws")
    assert (response.status_code, response.text) == (400, "this port requires TLS: use wss\n")
    assert await server.metric("ws_connections_failed_total", reason="no_tls") == 1


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 100, b"\x16\x03\x01"])
async def test_garbage_on_a_tls_port_closes_the_connection(server: Server, data: bytes) -> None:
    """The server sends at most a TLS alert, within the handshake time-out, and continues."""
    async with await trio.open_tcp_stream(LOOPBACK, server.port) as stream:
        await stream.send_all(data)
        with trio.fail_after(PATIENCE):
            while await stream.receive_some():
                pass
    assert await server.metric("ws_connections_failed_total", reason="tls_failed") == 1
    assert not server.events("connection failed")


async def test_tls_on_a_plain_port_fails_at_once() -> None:
    """A client notices at once that there is no TLS."""
    (nobody,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{nobody}", ready=False) as server:
        stream = await trio.open_ssl_over_tcp_stream(LOOPBACK, server.port)
        async with stream:
            with trio.fail_after(2), pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()
        assert await server.metric("ws_connections_failed_total", reason="bad_request") == 1


async def test_certificate_is_renewed_without_disconnections(
    server: Server, authority: Authority
) -> None:
    """After SIGHUP new connections get the new one; an invalid one is logged, and changes nothing.

    A metric has the expiry of the current one.
    """
    async with dial(server, authority) as websocket:
        first = await serial(server, authority)
        assert await server.metric(EXPIRES) > RENEWED.timestamp()
        authority.issue("renewed.test", expires=RENEWED)
        server.signal(signal.SIGHUP)

        async def is_new() -> bool:
            return await serial(server, authority) != first

        await until(is_new)
        second = await serial(server, authority)
        authority.key.write_text("no key")
        server.signal(signal.SIGHUP)
        await wait_until(
            lambda: server.events("certificate not reloaded: unusable, keeping the old one")
        )
        assert await serial(server, authority) == second
        assert await server.metric(EXPIRES) == RENEWED.timestamp()
        assert "pong" in await request(websocket)
    assert await server.metric("ws_connections_total") == 1


async def both_have_renewed(server: Server) -> bool:
    """Send SIGHUP until both workers have renewed; a worker that starts reads the files anyway."""
    server.signal(signal.SIGHUP)
    done = {line["worker"] for line in server.events("certificate reloaded")}
    return done == {1, 2}


async def test_several_workers_renew_their_certificate(authority: Authority) -> None:
    """The supervisor forwards SIGHUP, and no client is disconnected."""
    (nobody,) = free_ports(1)
    settings = {
        "WS_TLS_CERT": str(authority.chain),
        "WS_TLS_KEY": str(authority.key),
        "WS_WORKERS": "2",
    }
    async with serving(f"{LOOPBACK}:{nobody}", settings, ready=False) as server:
        await wait_until(lambda: len(server.events("serving")) == 2)
        async with dial(server, authority) as websocket:
            authority.issue("renewed.test")
            await until(partial(both_have_renewed, server))
            assert "pong" in await request(websocket)
        assert not server.events("worker exited, replaced")


@pytest.mark.parametrize("workers", [1, 2])
async def test_sighup_without_tls_is_ignored(workers: int) -> None:
    """SIGHUP to any process is logged and ends none."""
    (nobody,) = free_ports(1)
    settings = {"WS_WORKERS": str(workers)}
    async with serving(f"{LOOPBACK}:{nobody}", settings, ready=False) as server:
        # A worker waits for it before it serves.
        await wait_until(lambda: len(server.events("serving")) == workers)
        processes = [
            server.process.pid,
            *(event["pid"] for event in server.events("worker starting")),
        ]
        for pid in processes:
            os.kill(pid, signal.SIGHUP)
        await wait_until(lambda: len(server.events(NOTHING_READ)) == len(processes))
        await server.responses("/health/live")
        assert not server.events("worker exited, replaced")
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def test_sighup_during_the_start_is_ignored(tmp_path: Path) -> None:
    """The process has no receiver for the signal yet."""
    path = tmp_path / "token"
    os.mkfifo(path)
    (nobody,) = free_ports(1)
    settings = {"KAFKA_BROKERS": f"{LOOPBACK}:{nobody}", "WS_OPS_TOKEN_FILE": str(path)}
    with started(settings) as server:
        pipe = await opened_by_both(path)
        with pipe:
            # The start blocks at the named pipe.
            server.signal(signal.SIGHUP)
            pipe.write(b"the operators' own token")
        await server.responses("/health/live")
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


async def opened_by_both(path: Path) -> BinaryIO:
    """Return the writing end of a named pipe, once the server has opened the other end."""
    ends: list[int] = []

    async def is_read() -> bool:
        with contextlib.suppress(OSError):
            ends.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    await until(is_read)
    return os.fdopen(ends[0], "wb")


async def test_drain_over_tls_sends_the_close_frame(server: Server, authority: Authority) -> None:
    """The close frame arrives whole, and the exit status is 0."""
    async with dial(server, authority) as websocket:
        assert "pong" in await request(websocket)
        server.signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed):
            await read_on(websocket)
        assert websocket.close_code == 1012
    assert await server.ended() == 0


async def test_invalid_certificate_stops_the_start(authority: Authority) -> None:
    """One line names the setting, the file, and what is wrong with it."""
    authority.key.write_text("no key")
    tls = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}
    status, output = await run_to_the_end(tls)
    assert status == 2
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("odin-ws: ")]
    assert line == f"odin-ws: WS_TLS_KEY={authority.key}: no private key in PEM"
