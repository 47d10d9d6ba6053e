"""A paused server does not close clients because of its own pause."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack

import psutil
import pytest
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.integration.running_source import wait_until
from tests.integration.servers import Server, connected, serving
from tests.scenarios.wire import request

# Longer than each of the deadlines.
PAUSE = 4
SETTINGS = {
    "WS_PING_INTERVAL_SECONDS": "1",
    "WS_PONG_TIMEOUT_SECONDS": "2",
    "WS_HANDSHAKE_TIMEOUT_SECONDS": "3",
}


def send_to_all(server: Server, number: signal.Signals) -> None:
    """Send a signal to the server and to its workers."""
    main = psutil.Process(server.process.pid)
    for process in (main, *main.children()):
        process.send_signal(number)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_paused_server_closes_no_healthy_client(workers: str) -> None:
    """SIGSTOP for twice the pong time-out: 20 clients stay, and a slow handshake continues."""
    async with (
        serving(f"{LOOPBACK}:1", SETTINGS | {"WS_WORKERS": workers}, ready=False) as server,
        AsyncExitStack() as stack,
    ):
        await wait_until(lambda: len(server.events("serving")) == int(workers))
        for _ in range(20):
            await stack.enter_async_context(connected(server))
        half = await trio.open_tcp_stream(LOOPBACK, server.port)
        await half.send_all(request()[:-2])
        await trio.sleep(1)
        send_to_all(server, signal.SIGSTOP)
        await trio.sleep(PAUSE)
        send_to_all(server, signal.SIGCONT)
        # The server must have checked its deadlines before the rest of the handshake arrives.
        assert await server.metric("ws_pauses_total") >= 1
        await half.send_all(request()[-2:])
        assert (await half.receive_some(100)).startswith(b"HTTP/1.1 101")
        await half.aclose()
        await trio.sleep(2.5)
        assert await server.metric("ws_disconnects_total", reason="no_pong") == 0
        assert await server.metric("ws_connections_active") == 20
        assert await server.metric("ws_paused_seconds_total") > PAUSE - 1
        assert server.events("process paused, deadlines extended")
