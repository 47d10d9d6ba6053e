"""What a real server logs, and what it does not."""

from __future__ import annotations

import json

import trio

from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.events import event
from tests.integration.feeding import Publisher, eventually
from tests.integration.serving import connected, serving
from tests.integration.watching import closed, subscribed


async def test_27_no_line_for_a_message_or_a_connection(topics: str, token: str) -> None:
    """Ten connections and five thousand messages add nothing to the log at its usual level."""
    # Without the past: other tests' poison records are told of.
    async with serving(topics, LOG_LEVEL="info", WS_RETENTION_SECONDS="0") as server:
        before = len(server.lines)
        async with trio.open_nursery() as nursery:
            clients = [await nursery.start(subscribed, server, f"{token}.trade") for _ in range(10)]
            await Publisher(topics).publish([event(token, "trade", number=n) for n in range(500)])
            for client in clients:
                await client.received(500)
            nursery.cancel_scope.cancel()
        await closed(server, 10)
        assert server.lines[before:] == []


async def test_27_a_broker_that_is_away_is_told_of_once() -> None:
    """Five seconds without the broker are a handful of lines, and so is its loss."""
    (port,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{port}", ready=False) as server:
        with trio.move_on_after(5):
            await server.ended()
        assert len(server.lines) < 12, server.output
        async with embedded_broker(port) as broker:
            await kafka.create_topics(broker.bootstrap)
            await server.answers("/health/ready")
            before = len(server.lines)
            await broker.kill()
            await eventually(lambda: server.events("feed is stalled"))
            with trio.move_on_after(5):
                await server.ended()
            assert len(server.lines) - before < 12, "".join(server.lines[before:])
            (told,) = server.events("feed is stalled")
            assert told["reason"]


async def test_log_level(topics: str) -> None:
    """At `error` a server that works prints nothing; at `debug` it tells of a connection."""
    async with serving(topics, LOG_LEVEL="error") as server, connected(server):
        pass
    assert server.output == ""
    async with serving(topics, LOG_LEVEL="debug") as server:
        async with connected(server):
            pass
        await eventually(lambda: server.events("closed"))


async def test_log_format(topics: str) -> None:
    """`json` is an object a line, with level, time and logger; `text` is for reading."""
    async with serving(topics, LOG_FORMAT="json") as server:
        for line in server.lines:
            assert {"event", "level", "timestamp", "logger"} <= json.loads(line).keys()
    async with serving(topics, LOG_FORMAT="text") as server:
        assert "serving" in server.output
        assert not any(line.startswith("{") for line in server.lines)
