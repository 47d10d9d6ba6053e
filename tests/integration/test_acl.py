"""Kafka denies some of our permissions: the rest is served, and health names the missing ones."""

from __future__ import annotations

import uuid

import pytest
import trio

from tests.integration.cluster import Cluster, user_settings
from tests.integration.domain import Domain, offsets
from tests.integration.problems import feed_statuses, no_problem, problem_with, wait_for_statuses
from tests.integration.running_source import Publisher, until
from tests.integration.servers import connected, serving

# Long enough for an unexpected notice, and for retries that are too frequent.
WATCHED_SECONDS = 3


@pytest.fixture
async def cluster(cluster: Cluster, domain: Domain) -> Cluster:
    """The cluster with all topics, of which our user may describe and read all but `trade`."""
    for topic in domain.topics:
        await cluster.create_topic(topic, 2)
        if topic != domain.trade:
            await allow(cluster, topic)
    return cluster


async def allow(cluster: Cluster, topic: str) -> None:
    """Grant our user what a reader needs; READ implies DESCRIBE."""
    await cluster.grant("DESCRIBE", topic)
    await cluster.grant("READ", topic)


async def test_topic_without_read_does_not_prevent_readiness(
    cluster: Cluster, domain: Domain
) -> None:
    """Health names topic and permission; other topics deliver, and this one once granted."""
    await cluster.grant("DESCRIBE", domain.trade)
    settings = user_settings(cluster.nodes) | domain.settings
    async with serving("", settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.*"])
        await problem_with(server, domain.trade, "not authorized", "READ")
        publisher = Publisher(cluster.bootstrap)
        await publisher.publish(domain.records(domain.social, 5))
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        assert offsets(client, "social") == {0: list(range(5))}
        await cluster.grant("READ", domain.trade)
        await client.received(10)
        assert offsets(client) == {0: list(range(5))}
        await no_problem(server)


async def test_topic_without_any_permission_is_not_reported_as_missing(
    cluster: Cluster, domain: Domain
) -> None:
    """Health says that we may not describe it, and nothing of "does not exist"."""
    settings = user_settings(cluster.nodes) | domain.settings
    async with serving("", settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.*"])
        await problem_with(server, domain.trade, "not authorized", "DESCRIBE")
        report = await server.health()
        assert not [text for text in report["warnings"] if "not exist" in text], report
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 5))
        await allow(cluster, domain.trade)
        await no_problem(server)
        await client.received(5)
        assert offsets(client) == {0: list(range(5))}


async def test_revoked_read_is_reported_once_to_subscribers_only(
    cluster: Cluster, domain: Domain
) -> None:
    """Subscribers get one `stalled` and one `live`; others get no notice, and records in time."""
    await allow(cluster, domain.trade)
    settings = user_settings(cluster.nodes) | domain.settings
    async with (
        serving("", settings) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        await client.subscribe(channels=["*.trade"])
        await other.subscribe(channels=["*.social"])
        publisher = Publisher(cluster.bootstrap)
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        await cluster.revoke("READ", domain.trade)
        await problem_with(server, domain.trade, "not authorized", "READ")
        await wait_for_statuses(client, domain.trade, "stalled")
        await publisher.publish(domain.records(domain.trade, 5, 5))
        for number in range(WATCHED_SECONDS * 4):
            await publisher.publish([domain.record(domain.social, number)])
            with trio.fail_after(2):
                await other.received(number + 1)
            await trio.sleep(0.25)
        assert feed_statuses(client) == ["stalled"]
        await cluster.grant("READ", domain.trade)
        await client.received(10)
        await wait_for_statuses(client, domain.trade, "stalled", "live")
        assert offsets(client) == {0: list(range(10))}
        assert feed_statuses(other) == []
        await no_problem(server)


async def test_denied_group_is_named_and_joined_once_granted(
    cluster: Cluster, domain: Domain
) -> None:
    """Health names the group and the permission; once granted, members share the partitions."""
    await allow(cluster, domain.trade)
    group = uuid.uuid4().hex
    settings = user_settings(cluster.nodes) | domain.settings
    settings |= {"KAFKA_ASSIGNMENT": "group", "KAFKA_CONSUMER_GROUP": group}
    async with serving("", settings, ready=False) as server:

        async def named() -> bool:
            report = await server.health()
            text = " ".join(
                [*report["errors"], *report["warnings"], str(report["checks"]["kafka"])]
            )
            return group in text and "not authorized" in text.lower() and "READ" in text

        await until(named)
        report = await server.health()
        assert "sharing out" not in str(report), report
        await cluster.grant("READ", group=group)
        await server.responses("/health/ready")
        async with connected(server) as client:
            await client.subscribe(channels=["*.trade"])
            await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 5))
            await client.received(5)
            assert offsets(client) == {0: list(range(5))}
        await no_problem(server)
