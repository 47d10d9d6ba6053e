"""How a real server stops: by signals, with Kafka or without."""

from __future__ import annotations

import signal

import pytest
import trio

from odin_ws.testing.brokers import embedded_broker
from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_source import Publisher, wait_until
from tests.integration.servers import connected, serving


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_clients_and_exits_0(
    topics: str, token: str, number: signal.Signals
) -> None:
    """First not ready, still serving; then a close 1012 for each client, and exit status 0."""
    async with serving(
        topics, WS_DRAIN_DELAY_SECONDS="1.5", WS_DRAIN_TIMEOUT_SECONDS="5"
    ) as server:
        async with connected(server) as client:
            await client.subscribe(channels=[f"{token}.trade"])
            server.signal(number)
            signalled = trio.current_time()
            await server.responses("/health/ready", 503)
            assert (await server.get("/health/live")).status_code == 200
            # Load balancers have not noticed yet: connections that they send are served.
            async with connected(server) as late:
                await late.subscribe(channels=[f"{token}.trade"])
                await Publisher(topics).publish([event(token, "trade")])
                for one in client, late:
                    await one.received(1)
                    assert await one.ended() == (1012, "the server is restarting")
        assert trio.current_time() - signalled >= 1.5
        assert await server.ended(1.5 + 5 - (trio.current_time() - signalled)) == 0
        assert "Traceback" not in server.output
        assert server.events("stopped")[0]["disconnects"] == 2


async def test_second_signal_ends_the_process_at_once(topics: str) -> None:
    """During a long drain a second signal ends the process, with status 1 and no traceback."""
    async with serving(topics, WS_DRAIN_DELAY_SECONDS="60") as server, connected(server) as client:
        server.signal(signal.SIGTERM)
        await wait_until(lambda: server.events("draining"))
        server.signal(signal.SIGTERM)
        assert await server.ended(5) == 1
        assert "Traceback" not in server.output
        await client.ended()


@pytest.mark.parametrize("away", ["killed", "frozen"])
async def test_lost_broker_does_not_delay_the_drain(away: str) -> None:
    """The drain is as quick as with a broker, whether the broker rejects or does not answer."""
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap, ["odin.trades"], 1)
        async with serving(broker.bootstrap, WS_DRAIN_TIMEOUT_SECONDS="5") as server:
            async with connected(server) as client:
                if away == "killed":
                    await broker.kill()
                else:
                    broker.pause()
                await server.responses("/health", 503)
                signalled = trio.current_time()
                server.signal(signal.SIGTERM)
                assert (await client.ended())[0] == 1012
            assert await server.ended(5 - (trio.current_time() - signalled)) == 0
            assert "Traceback" not in server.output
