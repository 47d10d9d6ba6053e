"""An unclean election truncates a log: lost records are reported, and none is replayed.

The log of partition 0 has 20 records on nodes 2 and 3, then 10 more on node 2 alone. Node 3 leads
after an unclean election: the 10 are gone, and their offsets are given to other records.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pytest
import trio

from tests.integration.cluster import Cluster
from tests.integration.domain import Domain, ids_of, offsets
from tests.integration.problems import lost_offsets, no_problem
from tests.integration.running_source import Publisher, wait_until
from tests.integration.servers import Client, connected, serving

KEPT, CUT = 20, 10

# Long enough for an unexpected record.
WATCHED_SECONDS = 2


class Numbered(NamedTuple):
    """A message: its offset, and the number in its record."""

    offset: int
    number: int


def messages(client: Client) -> list[Numbered]:
    """The messages of the topic's partition 0 that a client has, in order."""
    return [
        Numbered(int(message["pos"].partition("-")[2]), message["data"]["data"]["n"])
        for message in client.messages
    ]


@pytest.fixture
async def cluster(cluster: Cluster, domain: Domain) -> Cluster:
    """The cluster with a topic whose partition needs one in-sync replica."""
    config = {"min.insync.replicas": "1"}
    await cluster.create_topic(domain.trade, replicas=[[2, 3]], config=config)
    await cluster.create_topics(domain.topics[1:])
    return cluster


async def truncate_the_log(cluster: Cluster, domain: Domain, publisher: Publisher) -> None:
    """Publish records to one node alone, and elect the other one without them."""
    await cluster.node(3).kill()
    await cluster.synced(domain.trade, 0, {2})
    await publisher.publish(domain.records(domain.trade, CUT, KEPT))


async def elect_node_3(cluster: Cluster, domain: Domain) -> None:
    """Elect node 3, which lacks the last records; node 2 follows it later."""
    await cluster.node(2).kill()
    await cluster.node(3).start()
    await cluster.led_by(domain.trade, 0, -1)
    await cluster.elect(domain.trade, unclean=True)
    await cluster.led_by(domain.trade, 0, 3)
    await cluster.node(2).start()


@pytest.mark.timeout(180)
async def test_truncated_records_are_reported_and_none_is_replayed(
    cluster: Cluster, domain: Domain
) -> None:
    """Records at the truncated offsets arrive; kept ones do not arrive again.

    A resume with a position from before the truncation continues at the divergence and reports what
    is uncertain. Both instances, one of which had no client, are at the same position afterwards.
    """
    publisher = Publisher(cluster.bootstrap)
    async with (
        serving(cluster.bootstrap, domain.settings) as server,
        serving(cluster.bootstrap, domain.settings) as second,
        connected(server) as client,
    ):
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        await publisher.publish(domain.records(domain.trade, KEPT))
        await client.received(KEPT)
        await truncate_the_log(cluster, domain, publisher)
        await client.received(KEPT + CUT)
        await second.has_read(domain.trade, KEPT + CUT)
        before = len(client.messages)
        assert [message.offset for message in messages(client)] == list(range(KEPT + CUT))
        await elect_node_3(cluster, domain)
        await wait_until(lambda: has_truncation_report(client), 60)
        # Five more than were truncated: the log is longer than it ever was.
        new = domain.records(domain.trade, CUT + 5, 100)
        # Another producer: the first one believes in records that the log lacks.
        await Publisher(cluster.bootstrap).publish(new)
        expected = [Numbered(KEPT + n, 100 + n) for n in range(CUT + 5)]
        await client.received(before + len(expected))
        await trio.sleep(WATCHED_SECONDS)
        assert messages(client)[before:] == expected
        await no_problem(server)
        for instance in server, second:
            async with connected(instance) as back:
                positions = {domain.trade: {"0": KEPT + CUT - 1}}
                response = await back.command(
                    "resume", channels=["*.trade"], positions=positions, **ids_of(ack)
                )
                # The offset alone does not say whether the client has a truncated record or its
                # successor. It gets the new ones, or a report.
                await wait_until(partial(covered, back, domain, expected))
                assert min(message.offset for message in messages(back)) >= KEPT
                assert response["type"] == "resume_ack", response


def has_truncation_report(client: Client) -> bool:
    """Whether a client got a report of records that are gone from the log."""
    return any(
        response["type"] == "feed" and response.get("reason") == "truncated"
        for response in client.responses
    )


def covered(client: Client, domain: Domain, expected: list[Numbered]) -> bool:
    """Whether a client has each of these records, or a report of its loss."""
    lost = lost_offsets(client, domain.trade)
    return all(record in messages(client) or (0, record.offset) in lost for record in expected)


@pytest.mark.timeout(180)
async def test_truncation_before_the_start_is_not_reported(
    cluster: Cluster, domain: Domain
) -> None:
    """An instance that starts after the truncation begins at the end of the present log."""
    publisher = Publisher(cluster.bootstrap)
    await publisher.publish(domain.records(domain.trade, KEPT))
    await truncate_the_log(cluster, domain, publisher)
    await elect_node_3(cluster, domain)
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        assert ack["positions"][domain.trade]["0"] == KEPT - 1
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 5, KEPT))
        await client.received(5)
        assert offsets(client) == {0: list(range(KEPT, KEPT + 5))}
