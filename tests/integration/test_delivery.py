"""Every published record reaches every client that subscribed to it, once and in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Ping, Request, TextMessage

from odin_ws.testing.ports import LOOPBACK
from tests.integration.events import EVENTS, event, numbers
from tests.integration.running_source import Publisher, until
from tests.integration.servers import Client, Server, connected, serving, started
from tests.integration.watchers import has_all_topics, subscribed

BUNDLES = {
    "TRADING": {"trade", "liquidity", "analytics"},
    "FULL_MARKET": {"trade", "liquidity", "analytics", "metadata"},
    "COMMUNITY": {"community", "social", "metadata"},
    "PORTFOLIO": {"trade", "analytics", "balances"},
    "PRICE_ONLY": {"trade", "analytics"},
    "ALL": set(EVENTS),
}


@pytest.fixture(scope="module")
def shared(apache: str) -> Iterator[Server]:
    """A server that tests share unchanged; `server` waits for it."""
    with started({"KAFKA_BROKERS": apache}) as server:
        yield server


@pytest.fixture
async def server(shared: Server, topics: str) -> Server:
    """The shared server, ready, with `topics` there."""
    assert topics
    await shared.responses("/health/ready")
    # It may have started before the topics existed.
    await until(lambda: has_all_topics(shared))
    return shared


async def test_all_topics_and_event_types_arrive(server: Server, topics: str, token: str) -> None:
    """Each of the 24 event types of 8 topics arrives on its channel, with its value unchanged."""
    sent = [
        event(token, category, kind=kind)
        for category, (_topic, kinds) in EVENTS.items()
        for kind in kinds.split()
    ]
    async with connected(server) as client:
        await client.subscribe(channels=[f"{token}.*"])
        await Publisher(topics).publish(sent)
        await client.received(len(sent))
        client.check_sequence()
        assert len(sent) == 24
        got = {(message["channel"], json.dumps(message["data"])) for message in client.messages}
        wanted = {
            (f"{token}.{category}", json.dumps(json.loads(one.value or b"")))
            for category, (topic, _kinds) in EVENTS.items()
            for one in sent
            if one.topic == topic
        }
        assert got == wanted


@pytest.mark.parametrize("bundle", BUNDLES)
async def test_bundle_delivers_its_categories_only(
    server: Server, topics: str, token: str, bundle: str
) -> None:
    """A subscriber to a bundle receives exactly what is published in its categories."""
    async with connected(server) as client, connected(server) as everything:
        await client.subscribe(bundles=[bundle], tokens=[token])
        await everything.subscribe(channels=[f"{token}.*"])
        await Publisher(topics).publish([event(token, category) for category in EVENTS])
        await everything.received(len(EVENTS))
        # Everything for the client was written before: in the same cycle or an earlier one.
        await client.command("heartbeat")
        assert {message["channel"] for message in client.messages} == {
            f"{token}.{category}" for category in BUNDLES[bundle]
        }
        assert len(client.messages) == len(BUNDLES[bundle])


async def test_no_record_is_dropped(server: Server, topics: str, token: str) -> None:
    """Thousands of records for subscribers of all kinds: each gets its own, in order."""
    tokens = [f"{token}.{number}" for number in range(5)]
    categories = ("trade", "liquidity", "balances")
    sent = [
        event(tokens[number % 5], categories[number % 3], number=number) for number in range(3000)
    ]
    async with trio.open_nursery() as nursery:
        clients: dict[str, Client] = {}
        patterns = [f"{token}.{category}" for token in tokens for category in categories]
        patterns += [f"{token}.*" for token in tokens]
        for pattern in patterns:
            clients[pattern] = await nursery.start(subscribed, server, pattern)
        await Publisher(topics).publish(sent)
        for pattern, client in clients.items():
            one, _, category = pattern.rpartition(".")
            wanted = [
                number
                for number in range(3000)
                if one == tokens[number % 5] and category in {categories[number % 3], "*"}
            ]
            await client.received(len(wanted))
            await client.command("heartbeat")
            assert sorted(numbers(client)) == wanted
            client.check_sequence()
            for name in categories:
                channel = numbers(client, f"{one}.{name}")
                assert channel == sorted(channel)
        nursery.cancel_scope.cancel()


async def test_two_instances_deliver_every_record_once_each(topics: str, token: str) -> None:
    """Instances with one group's name do not share partitions: each delivers all records once."""
    async with (
        serving(topics, KAFKA_CONSUMER_GROUP="same") as one,
        serving(topics, KAFKA_CONSUMER_GROUP="same") as other,
        connected(one) as first,
        connected(other) as second,
    ):
        positions = []
        for client in first, second:
            response = await client.subscribe(channels=[f"{token}-{n}.trade" for n in range(20)])
            assert "partitions" not in response
        # Twenty keys are in all partitions, except by bad luck, which this reports.
        sent = [event(f"{token}-{n % 20}", "trade", number=n) for n in range(500)]
        await Publisher(topics).publish(sent)
        for client in first, second:
            await client.received(500)
            await client.command("heartbeat")
            assert sorted(numbers(client)) == list(range(500))
            client.check_sequence()
            positions.append({(message["channel"], message["pos"]) for message in client.messages})
        assert positions[0] == positions[1]
        assert len({pos.partition("-")[0] for _channel, pos in positions[0]}) > 6


async def test_client_that_sends_with_its_handshake_is_served(
    server: Server, topics: str, token: str
) -> None:
    """The server serves a client that sends its subscription together with the handshake."""
    wire = WSConnection(ConnectionType.CLIENT)
    subscribe = {"type": "subscribe", "id": 1, "data": {"channels": [f"{token}.trade"]}}
    texts: list[dict[str, Any]] = []
    stream = await trio.open_tcp_stream(LOOPBACK, server.port)
    async with stream:
        head = wire.send(Request(host=LOOPBACK, target="/ws"))
        # wsproto sends no frame before it is accepted: masked by hand, with a mask of zeros.
        payload = json.dumps(subscribe).encode()
        assert len(payload) < 126
        frame = bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload
        await stream.send_all(head + frame)

        async def read_until(count: int) -> None:
            with trio.fail_after(30):
                while len(texts) < count:
                    wire.receive_data(await stream.receive_some())
                    for item in wire.events():
                        if isinstance(item, TextMessage):
                            texts.append(json.loads(item.data))
                        else:
                            # The keepalive pings a connection at any time.
                            assert isinstance(item, AcceptConnection | Ping)

        await read_until(1)
        assert texts[0]["subscribed"] == [f"{token}.trade"]
        assert texts[0]["id"] == 1
        await Publisher(topics).publish([event(token, "trade", number=7)])
        await read_until(2)
        assert texts[1]["channel"] == f"{token}.trade"
        assert texts[1]["seq"] == 1
        assert texts[1]["data"]["data"]["n"] == 7


async def test_reconnected_client_continues(server: Server, topics: str, token: str) -> None:
    """A client that lost its connection subscribes again and continues, numbered from 1 again."""
    publisher = Publisher(topics)
    async with connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await publisher.publish([event(token, "trade", number=1)])
        await client.received(1)
    async with connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await publisher.publish([event(token, "trade", number=2)])
        await client.received(1)
        assert numbers(client) == [2]
        client.check_sequence()
