"""Health and metrics of a real server say what really happens."""

from __future__ import annotations

import json

from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_source import Publisher
from tests.integration.servers import Client, Server, connected, serving
from tests.integration.watchers import closed


async def test_health_follows_the_state_of_kafka(token: str) -> None:
    """Without a broker: stopped and not ready; with it: running; without it again: stopped.

    Clients stay connected throughout, and get responses.
    """
    (port,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{port}", ready=False) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await expect_kafka(server, "stopped", 503)
        assert (await server.get("/health/ready")).status_code == 503
        async with embedded_broker(port) as broker:
            await kafka.create_topics(broker.bootstrap)
            await server.responses("/health/ready")
            await expect_kafka(server, "running", 200)
            await Publisher(broker.bootstrap).publish([event(token, "trade", number=1)])
            await client.received(1)
            await broker.kill()
            await server.responses("/health", 503)
            await expect_kafka(server, "stopped", 503)
            # It stays ready: the other instances have lost the broker too.
            assert (await server.get("/health/ready")).status_code == 200
            assert (await client.command("heartbeat"))["type"] == "pong"
            await broker.start()
            await server.responses("/health", 200)
            await expect_kafka(server, "running", 200)
        assert client.closed is None


async def expect_kafka(server: Server, status: str, code: int) -> None:
    """Health, its status code and the metric say the same."""
    response = await server.get("/health")
    report = response.json()
    assert response.status_code == code, report
    assert report["checks"]["kafka"]["status"] == status, report
    assert report["healthy"] is (status == "running")
    assert bool(report["errors"]) is (status == "stopped")
    assert await server.metric("ws_kafka_connected") == (status == "running")


async def test_metrics_count_delivered_messages(token: str) -> None:
    """Records by topic, messages, bytes, connections and lag are the real ones."""
    # A broker of its own: on a shared one, other tests' records are read meanwhile.
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap)
        async with serving(broker.bootstrap) as server:
            async with connected(server) as client:
                await client.subscribe(channels=[f"{token}.trade"])
                trades = [event(token, "trade", number=number) for number in range(50)]
                await Publisher(broker.bootstrap).publish(trades)
                await client.received(50)
                await expect_delivered(server, client)
            await closed(server, 1)
            assert await server.metric("ws_connections_active") == 0
            assert await server.metric("ws_disconnects_total") == 1


async def expect_delivered(server: Server, client: Client) -> None:
    """The metrics are those of 50 trades, delivered once."""
    size = sum(len(json.dumps(message, separators=(",", ":"))) for message in client.messages)
    assert await server.metric("ws_messages_sent_total") == 50
    assert await server.metric("ws_bytes_sent_total") > size
    assert await server.metric("ws_connections_active") == 1
    assert await server.metric("ws_kafka_messages_received_total", topic="odin.trades") == 50
    assert await server.metric("ws_kafka_messages_received_total") == 50
    assert await server.metric("ws_kafka_lag_records") == 0
    assert await server.metric("ws_record_age_seconds_count") == 50
