"""Records that cannot be delivered are written to the dead letter topic, and the feed continues."""

from __future__ import annotations

import signal
import time

from confluent_kafka import Message

from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_source import Publisher, Sent, new_topics, until, wait_until
from tests.integration.secure_brokers import PASSWORD, USER, Secured
from tests.integration.servers import connected, serving

# For one call of the independent client; a free machine takes milliseconds.
CLIENT_SECONDS = 20


async def dead_letters(bootstrap: str, topic: str, count: int) -> list[Message]:
    """Read the first records of a dead letter topic with one partition."""
    return await kafka.read_records(bootstrap, [topic], 1, count)


def headers(letter: Message) -> dict[str, str]:
    """The headers of a dead letter as text."""
    found = dict(letter.headers() or [])
    return {name: bytes(value or b"").decode() for name, value in found.items()}  # type: ignore[arg-type]


async def test_invalid_record_is_written_to_the_dead_letter_topic(topics: str, token: str) -> None:
    """An invalid record is written there with its reason and position, also one before a drain."""
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
    assert [(record.key(), record.value()) for record in found] == [
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


async def test_missing_dead_letter_topic_does_not_affect_the_feed(topics: str, token: str) -> None:
    """Rejected dead letters are counted and logged; subscribers get valid records."""
    settings = {"KAFKA_DEAD_LETTER_TOPIC": "nowhere"}
    async with serving(topics, settings) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        poison = Sent("odin.trades", token.encode(), b"[]", 3)
        await Publisher(topics).publish([poison] * 1200 + [event(token, "trade", number=1)])
        await client.received(1)
        await wait_until(lambda: server.events("dead letters not written"))
        assert await server.metric("ws_dead_letters_total", result="dropped") > 0
        assert (await server.health())["status"] != "unhealthy"
        await Publisher(topics).publish([event(token, "trade", number=2)])
        await client.received(2)


async def test_dead_letters_use_the_security_settings_of_the_source(
    secured: Secured, token: str
) -> None:
    """With the same settings: over TLS, as the same user."""
    (dead,) = new_topics()
    bootstrap = secured.broker.bootstrap
    await kafka.create_topics(bootstrap, [dead], 1)
    login = {"KAFKA_SASL_USERNAME": USER, "KAFKA_SASL_PASSWORD": PASSWORD}
    settings = secured.settings("plain", "SASL_SSL", KAFKA_DEAD_LETTER_TOPIC=dead, **login)
    async with serving("", settings):
        await Publisher(bootstrap).publish([Sent("odin.trades", token.encode(), b"1", 0)])
        (letter,) = await dead_letters(bootstrap, dead, 1)
    assert letter.value() == b"1"
