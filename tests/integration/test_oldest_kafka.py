"""The oldest supported Kafka and the newest: live, resume and group on each."""

from __future__ import annotations

import uuid

import pytest

from tests.integration import kafka
from tests.integration.domain import Domain, offsets
from tests.integration.running_source import Publisher
from tests.integration.servers import connected, serving


@pytest.fixture(params=["oldest", "apache"])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of each Kafka in turn."""
    return str(request.getfixturevalue(request.param))


async def test_live_and_resume_on_oldest_and_newest_kafka(bootstrap: str, domain: Domain) -> None:
    """Records published while the client is connected arrive, and those from its absence."""
    await kafka.create_topics(bootstrap, domain.topics, 2)
    publisher = Publisher(bootstrap)
    # Without a history, so that the resume reads from Kafka.
    async with serving(bootstrap, domain.settings, WS_HISTORY_BYTES="0") as server:
        async with connected(server) as client:
            await client.subscribe(channels=["*.trade"], positions=True)
            await publisher.publish(domain.records(domain.trade, 5))
            await client.received(5)
        await publisher.publish(domain.records(domain.trade, 5, 5))
        async with connected(server) as back:
            positions = {domain.trade: {"0": 4, "1": -1}}
            response = await back.command("resume", channels=["*.trade"], positions=positions)
            assert response["recovered"], response
            await back.received(5)
            await publisher.publish(domain.records(domain.trade, 5, 10))
            await back.received(10)
            assert offsets(back) == {0: list(range(5, 15))}


async def test_group_on_oldest_and_newest_kafka(bootstrap: str, domain: Domain) -> None:
    """A member of a group serves each record once."""
    await kafka.create_topics(bootstrap, domain.topics, 2)
    group = {"KAFKA_ASSIGNMENT": "group", "KAFKA_CONSUMER_GROUP": uuid.uuid4().hex}
    settings = domain.settings | group
    async with serving(bootstrap, settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        publisher = Publisher(bootstrap)
        await publisher.publish(domain.records(domain.trade, 5))
        await publisher.publish(domain.records(domain.trade, 5, partition=1))
        await client.received(10)
        assert offsets(client) == {0: list(range(5)), 1: list(range(5))}
