"""Records that cannot be delivered are found in their own topic, and the feed goes on."""

from __future__ import annotations

import signal
import time

from confluent_kafka import Message

from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_source import Publisher, Sent, eventually, new_topics, until
from tests.integration.secure_brokers import PASSWORD, USER, Secured
from tests.integration.servers import connected, serving

# For one call of the independent client; a free machine takes milliseconds.
CLIENT_SECONDS = 20


async def dead_letters(bootstrap: str, topic: str, count: int) -> list[Message]:
    """The first letters of a topic with one partition."""
    return await kafka.read_records(bootstrap, [topic], 1, count)


def headers(letter: Message) -> dict[str, str]:
    """A letter's headers as text."""
    found = dict(letter.headers() or [])
    return {name: bytes(value or b"").decode() for name, value in found.items()}  # type: ignore[arg-type]


async def test_kafka_dead_letter_topic(topics: str, token: str) -> None:
    """A poison record is written there with its reason and place, also one of the last moment."""
    (dead,) = new_topics()
    await kafka.create_topics(topics, [dead], 1)
    publisher = Publisher(topics)
    poison = Sent("odin.trades", token.encode(), b"{not JSON \xff", 3)
    # Of the past of each instance, and so of no letter.
    await publisher.publish([poison])
    began = time.time()
    settings = {"KAFKA_DEAD_LETTER_TOPIC": dead}
    async with serving(topics, settings) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        large = Sent("odin.trades", token.encode(), b'"' + b"x" * 900_000 + b'"', 3)
        await publisher.publish([poison, large, event(token, "trade", number=1)])
        await client.received(1)
        found = await dead_letters(topics, dead, 2)
        await publisher.publish([Sent("odin.social", None, b"{}", 0)])

        async def on_invalid_record() -> bool:
            return await server.metric("ws_kafka_messages_failed_total", reason="no_key") == 1

        # Counted, and perhaps not written yet: the drain waits for it.
        await until(on_invalid_record)
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0
    (last,) = (await dead_letters(topics, dead, 3))[2:]
    assert [(one.key(), one.value()) for one in found] == [
        (token.encode(), poison.value),
        (token.encode(), large.value),
    ]
    first, second, third = map(headers, (*found, last))
    assert first["odin-ws.reason"] == "not_json"
    assert second["odin-ws.reason"] == "too_large"
    assert third["odin-ws.reason"] == "no_key"
    assert (first["odin-ws.topic"], first["odin-ws.partition"]) == ("odin.trades", "3")
    assert int(second["odin-ws.offset"]) == int(first["odin-ws.offset"]) + 1
    assert abs(int(first["odin-ws.timestamp"]) / 1000 - began) < CLIENT_SECONDS
    assert first["odin-ws.instance"]


async def test_a_topic_that_is_missing_costs_the_feed_nothing(topics: str, token: str) -> None:
    """Letters that are not taken are counted and told of; subscribers get what is good."""
    settings = {"KAFKA_DEAD_LETTER_TOPIC": "nowhere"}
    async with serving(topics, settings) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        poison = Sent("odin.trades", token.encode(), b"[]", 3)
        await Publisher(topics).publish([poison] * 1200 + [event(token, "trade", number=1)])
        await client.received(1)
        await eventually(lambda: server.events("dead letters not written"))
        assert await server.metric("ws_dead_letters_total", result="dropped") > 0
        assert (await server.health())["status"] != "unhealthy"
        await Publisher(topics).publish([event(token, "trade", number=2)])
        await client.received(2)


async def test_letters_go_where_the_records_come_from(secured: Secured, token: str) -> None:
    """By the same settings: over TLS, as the same user."""
    (dead,) = new_topics()
    bootstrap = secured.broker.bootstrap
    await kafka.create_topics(bootstrap, [dead], 1)
    login = {"KAFKA_SASL_USERNAME": USER, "KAFKA_SASL_PASSWORD": PASSWORD}
    settings = secured.settings("plain", "SASL_SSL", KAFKA_DEAD_LETTER_TOPIC=dead, **login)
    async with serving("", settings):
        await Publisher(bootstrap).publish([Sent("odin.trades", token.encode(), b"1", 0)])
        (letter,) = await dead_letters(bootstrap, dead, 1)
    assert letter.value() == b"1"
