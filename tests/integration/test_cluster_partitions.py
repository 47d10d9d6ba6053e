"""Three brokers lose one, elect leaders, move partitions: other partitions are not affected."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.integration.cluster import Cluster
from tests.integration.domain import Domain, offsets
from tests.integration.problems import (
    feed_statuses,
    kafka_check,
    no_problem,
    problem_with,
    subscribed,
    wait_for_statuses,
)
from tests.integration.running_source import Publisher, until
from tests.integration.servers import Client, Server, connected, serving

# Problems shorter than this are not reported; the tests' usual half a second is too short.
PATIENT = {"KAFKA_PROBE_SECONDS": "5"}


@pytest.fixture
async def cluster(cluster: Cluster, domain: Domain) -> Cluster:
    """Each topic has three partitions on three nodes; partition n prefers node n + 1."""
    for topic in domain.topics:
        await cluster.create_topic(topic, replicas=[[1, 2, 3], [2, 3, 1], [3, 1, 2]])
    return cluster


async def publish_to_all(publisher: Publisher, domain: Domain, count: int, first: int) -> None:
    """Publish `count` records to each partition of `trade`, and to those of `social`."""
    for topic in (domain.trade, domain.social):
        for partition in range(3):
            await publisher.publish(domain.records(topic, count, first, partition))


def assert_all(client: Client, count: int) -> None:
    """Each record came once and in order."""
    for category in ("trade", "social"):
        assert offsets(client, category) == {n: list(range(count)) for n in range(3)}


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_lost_broker_loses_no_record_and_its_notice_ends(
    way: str, cluster: Cluster, domain: Domain
) -> None:
    """Its partitions move to the others and back; each record arrives once."""
    publisher = Publisher(cluster.bootstrap)
    node = cluster.node(2)
    async with (
        serving(cluster.bootstrap, domain.settings | PATIENT) as server,
        connected(server) as client,
    ):
        await client.subscribe(channels=["*.*"])
        await publish_to_all(publisher, domain, 10, 0)
        await (node.stop() if way == "stop" else node.kill())
        await publish_to_all(publisher, domain, 10, 10)
        await client.received(120)
        await node.start()
        await cluster.synced(domain.trade, 1, {1, 2, 3})
        await cluster.elect(domain.trade, 1)
        await publish_to_all(publisher, domain, 10, 20)
        await client.received(180)
        assert_all(client, 30)
        # A stopping leader hands over first; a killed one is missing for some seconds, and the
        # notice of it is revoked.
        allowed = [[]] if way == "stop" else [[], ["stalled", "live"]]
        for topic in domain.topics:
            assert feed_statuses(client, topic) in allowed
        await no_problem(server)


async def test_paused_broker_stalls_only_its_partitions(cluster: Cluster, domain: Domain) -> None:
    """While it answers nothing, records of other leaders arrive; its own follow, each once."""
    publisher = Publisher(cluster.bootstrap)
    node = cluster.node(3)
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.*"])
        await publish_to_all(publisher, domain, 5, 0)
        await client.received(30)
        node.pause()
        for number in range(5, 10):
            await publisher.publish([domain.record(domain.trade, number, 0)])
            with trio.fail_after(10):
                await client.received(26 + number)
        await publisher.publish(domain.records(domain.trade, 5, 5, 2))
        await client.received(40)
        node.unpause()
        await publisher.publish(domain.records(domain.trade, 5, 5, 1))
        await client.received(45)
        assert offsets(client) == {n: list(range(10)) for n in range(3)}
        await no_problem(server)


async def test_partition_without_a_leader_is_named_and_others_continue(
    cluster: Cluster, domain: Domain
) -> None:
    """A partition with one replica loses its node: health and its subscribers are informed."""
    alone = domain.balances
    await cluster.delete_topic(alone)
    await cluster.create_topic(alone, replicas=[[3], [1], [2]])
    publisher = Publisher(cluster.bootstrap)
    async with (
        serving(cluster.bootstrap, domain.settings) as server,
        subscribed(server, "*.balances") as client,
        subscribed(server, "*.social") as other,
    ):
        await publisher.publish(domain.records(alone, 5))
        await client.received(5)
        await cluster.node(3).kill()
        await problem_with(server, alone, "leader", partition=0)
        await wait_for_statuses(client, alone, "stalled")
        # Partitions that are added meanwhile are read, and the others continue.
        await cluster.add_partitions(domain.social, 4)
        await until(partial(publisher.knows, domain.social, 4))
        await publisher.publish(domain.records(domain.social, 5, partition=3))
        await publisher.publish(domain.records(alone, 5, partition=1))
        await other.received(5)
        await client.received(10)
        await until(partial(is_read, server, domain.social))
        await cluster.node(3).start()
        await publisher.publish(domain.records(alone, 5, 5))
        await client.received(15)
        await wait_for_statuses(client, alone, "stalled", "live")
        assert offsets(client, "balances") == {0: list(range(10)), 1: list(range(5))}
        await no_problem(server)
        # The gone leader may be reported for a moment; then the report is revoked.
        assert feed_statuses(other, domain.social) in ([], ["stalled", "live"])
        assert feed_statuses(other, alone) == []


async def is_read(server: Server, topic: str) -> bool:
    """Whether an instance has measured that it has no lag in a topic."""
    return bool((await kafka_check(server))["lag"][topic] == 0)


async def test_moved_partitions_lose_no_record(cluster: Cluster, domain: Domain) -> None:
    """Reassignment and election while records flow: each arrives once, without a notice."""
    publisher = Publisher(cluster.bootstrap)
    async with (
        serving(cluster.bootstrap, domain.settings | PATIENT) as server,
        connected(server) as client,
    ):
        await client.subscribe(channels=["*.*"])
        for turn, nodes in enumerate(([2, 3], [3, 1], [1, 2], [1, 2, 3])):
            await publish_to_all(publisher, domain, 10, 10 * turn)
            await cluster.reassign(domain.trade, 0, nodes)
            await cluster.elect(domain.trade, 0)
        await publish_to_all(publisher, domain, 10, 40)
        await client.received(300)
        assert_all(client, 50)
        assert feed_statuses(client) == []


async def test_records_of_5_mb_do_not_delay_other_partitions(
    cluster: Cluster, domain: Domain
) -> None:
    """Each arrives whole if WS_MAX_RECORD_BYTES allows it; small records arrive meanwhile."""
    large = domain.record(domain.trade, 0)
    value = large.value or b""
    large = large._replace(value=value[:-1] + b', "pad": "' + b"x" * (5 << 20) + b'"}')
    room = {"WS_MAX_RECORD_BYTES": str(6 << 20), "WS_SEND_QUEUE_BYTES": str(64 << 20)}
    publisher = Publisher(cluster.bootstrap)
    async with (
        serving(cluster.bootstrap, domain.settings | room) as server,
        subscribed(server, "*.trade") as client,
        subscribed(server, "*.social") as other,
    ):
        await publisher.publish([large] * 5 + domain.records(domain.social, 5, partition=1))
        await other.received(5)
        await client.received(5)
        assert offsets(client) == {0: list(range(5))}
        assert all(len(message["data"]["pad"]) == 5 << 20 for message in client.messages)
