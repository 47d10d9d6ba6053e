"""A leader without the log's last records is elected: what is cut is told, and nothing is replayed.

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
from tests.integration.running_source import Publisher, eventually
from tests.integration.servers import Client, connected, serving

KEPT, CUT = 20, 10

# Long enough for a record that should not come.
WATCHED_SECONDS = 2


class Numbered(NamedTuple):
    """A message: its offset and the number that its record has."""

    offset: int
    number: int


def messages(client: Client) -> list[Numbered]:
    """What a client has of the topic's partition 0, in order."""
    return [
        Numbered(int(one["pos"].partition("-")[2]), one["data"]["data"]["n"])
        for one in client.messages
    ]


@pytest.fixture
async def cluster(cluster: Cluster, domain: Domain) -> Cluster:
    """The cluster with a topic of which one record more than none has to be in sync."""
    config = {"min.insync.replicas": "1"}
    await cluster.create_topic(domain.trade, replicas=[[2, 3]], config=config)
    await cluster.create_topics(domain.topics[1:])
    return cluster


async def cut_the_log(cluster: Cluster, domain: Domain, publisher: Publisher) -> None:
    """Publish records that one node has alone, and let the other one lead without them."""
    await cluster.node(3).kill()
    await cluster.synced(domain.trade, 0, {2})
    await publisher.publish(domain.records(domain.trade, CUT, KEPT))


async def elect_the_other(cluster: Cluster, domain: Domain) -> None:
    """Let node 3 lead, which has not what was published last; node 2 follows it later."""
    await cluster.node(2).kill()
    await cluster.node(3).start()
    await cluster.led_by(domain.trade, 0, -1)
    await cluster.elect(domain.trade, unclean=True)
    await cluster.led_by(domain.trade, 0, 3)
    await cluster.node(2).start()


@pytest.mark.timeout(180)
async def test_records_cut_by_an_unclean_election_are_told_and_none_is_replayed(
    cluster: Cluster, domain: Domain
) -> None:
    """What is written to the offsets that were cut arrives; what was kept does not come again.

    A resume with a position from before the cut goes on from the divergence and tells what is
    uncertain. Both instances, one of which had no client, are at the same position afterwards.
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
        await cut_the_log(cluster, domain, publisher)
        await client.received(KEPT + CUT)
        await second.has_read(domain.trade, KEPT + CUT)
        before = len(client.messages)
        assert [one.offset for one in messages(client)] == list(range(KEPT + CUT))
        await elect_the_other(cluster, domain)
        await eventually(lambda: told_of_the_cut(client), 60)
        # Five more than were cut: the log is longer than it ever was.
        new = domain.records(domain.trade, CUT + 5, 100)
        # With another producer: the log lacks what the first one knows that it wrote.
        await Publisher(cluster.bootstrap).publish(new)
        expected = [Numbered(KEPT + n, 100 + n) for n in range(CUT + 5)]
        await client.received(before + len(expected))
        await trio.sleep(WATCHED_SECONDS)
        assert messages(client)[before:] == expected
        await no_problem(server)
        for instance in server, second:
            async with connected(instance) as back:
                positions = {domain.trade: {"0": KEPT + CUT - 1}}
                answer = await back.command(
                    "resume", channels=["*.trade"], positions=positions, **ids_of(ack)
                )
                # It may have the records that were cut, or those that have their offsets now:
                # nobody can tell by the number alone. It gets the new ones, or is told.
                await eventually(partial(covered, back, domain, expected))
                assert min(one.offset for one in messages(back)) >= KEPT
                assert answer["type"] == "resume_ack", answer


def told_of_the_cut(client: Client) -> bool:
    """Whether a client was told that it has records which are gone from the log."""
    return any(one["type"] == "feed" and one.get("reason") == "truncated" for one in client.answers)


def covered(client: Client, domain: Domain, expected: list[Numbered]) -> bool:
    """Whether a client has each of these records, or was told that it will not get it."""
    lost = lost_offsets(client, domain.trade)
    return all(one in messages(client) or (0, one.offset) in lost for one in expected)


@pytest.mark.timeout(180)
async def test_records_cut_before_they_were_read_are_nobodys_business(
    cluster: Cluster, domain: Domain
) -> None:
    """An instance that starts after the cut begins at the end of the log that there is."""
    publisher = Publisher(cluster.bootstrap)
    await publisher.publish(domain.records(domain.trade, KEPT))
    await cut_the_log(cluster, domain, publisher)
    await elect_the_other(cluster, domain)
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        assert ack["positions"][domain.trade]["0"] == KEPT - 1
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, 5, KEPT))
        await client.received(5)
        assert offsets(client) == {0: list(range(KEPT, KEPT + 5))}
