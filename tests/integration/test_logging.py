"""What a real server logs, and what it does not log."""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from odin_ws.settings import Settings
from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_source import Publisher, until, wait_until
from tests.integration.servers import Server, connected, serving
from tests.integration.watchers import closed, subscribed


async def test_no_line_per_message_or_connection(topics: str, token: str) -> None:
    """Ten connections and five thousand messages add nothing to the log at its usual level."""
    # Without the past: other tests' poison records are told of.
    async with serving(topics, LOG_LEVEL="info", WS_HISTORY_SECONDS="0") as server:
        before = len(server.lines)
        async with trio.open_nursery() as nursery:
            clients = [await nursery.start(subscribed, server, f"{token}.trade") for _ in range(10)]
            await Publisher(topics).publish([event(token, "trade", number=n) for n in range(500)])
            for client in clients:
                await client.received(500)
            nursery.cancel_scope.cancel()
        await closed(server, 10)
        assert server.lines[before:] == []


async def test_lost_broker_is_logged_once() -> None:
    """Five seconds without the broker are a handful of lines, and so is its loss."""
    (port,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{port}", ready=False) as server:
        with trio.move_on_after(5):
            await server.ended()
        assert len(server.lines) < 12, server.output
        async with embedded_broker(port) as broker:
            await kafka.create_topics(broker.bootstrap)
            await server.responses("/health/ready")
            before = len(server.lines)
            await broker.kill()
            await wait_until(lambda: server.events("feed is stalled"))
            with trio.move_on_after(5):
                await server.ended()
            assert len(server.lines) - before < 12, "".join(server.lines[before:])
            (reported,) = server.events("feed is stalled")
            assert reported["reason"]


async def test_log_level(topics: str) -> None:
    """At `error` a server that works prints nothing; at `debug` it tells of a connection."""
    async with serving(topics, LOG_LEVEL="error") as server, connected(server):
        pass
    assert server.output == ""
    async with serving(topics, LOG_LEVEL="debug") as server:
        async with connected(server):
            pass
        await wait_until(lambda: server.events("closed"))


async def test_log_format(topics: str) -> None:
    """`json` is an object a line, with level, time and logger; `text` is for reading."""
    async with serving(topics, LOG_FORMAT="json") as server:
        for line in server.lines:
            assert {"event", "level", "timestamp", "logger"} <= json.loads(line).keys()
    async with serving(topics, LOG_FORMAT="text") as server:
        assert "serving" in server.output
        assert not any(line.startswith("{") for line in server.lines)


@contextmanager
def unread(settings: dict[str, str]) -> Iterator[tuple[Server, int]]:
    """A server whose stderr is a pipe of 4 KiB, and the end to read from, which nobody does."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)

        def prepare() -> None:
            os.dup2(writing, 2)

        server = Server(settings, prepare)
        try:
            yield server, reading
        finally:
            server.kill()
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_unread_stderr_blocks_neither_pages_nor_the_drain(workers: str) -> None:
    """Pages and subscribers are served, SIGTERM drains with status 0, and drops are counted."""
    settings = {"KAFKA_BROKERS": f"{LOOPBACK}:1", "LOG_LEVEL": "debug", "WS_WORKERS": workers}
    with unread(settings) as (server, _):
        await server.responses("/health/live")
        await until(lambda: _all_workers_serve(server))
        # Each is a line at debug, and the pipe has room for 20.
        for _ in range(100):
            async with connected(server) as client:
                await client.command("heartbeat")
        assert await server.metric("ws_log_lines_dropped_total") == 0
        async with connected(server) as client:
            server.signal(signal.SIGTERM)
            assert await client.ended() == (1012, "the server is restarting")
        assert await server.ended() == 0


async def _all_workers_serve(server: Server) -> bool:
    return await server.metric("ws_connections_max") == Settings().ws_max_connections


async def test_late_reader_of_stderr_gets_every_line() -> None:
    """What has waited is written as soon as it is read, in order."""
    settings = {"KAFKA_BROKERS": f"{LOOPBACK}:1", "LOG_LEVEL": "debug"}
    with unread(settings) as (server, reading):
        await server.responses("/health/live")
        for _ in range(100):
            async with connected(server):
                pass
        output = trio.lowlevel.FdStream(os.dup(reading))
        text = b""
        while text.count(b'"closed"') < 100:
            text += await output.receive_some()
        await output.aclose()
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
    times = [json.loads(line)["timestamp"] for line in text.splitlines()[:-1]]
    assert times == sorted(times)
