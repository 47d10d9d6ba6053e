"""A topic that was deleted and created again is another log, however many records it has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from tests.integration.cluster import Cluster
from tests.integration.domain import Domain, ids_of, offsets
from tests.integration.kfake import REDPANDA, WITHOUT_IDS, Api, run_kfake
from tests.integration.problems import lost_offsets, no_problem
from tests.integration.running_source import Publisher, wait_until
from tests.integration.servers import Client, connected, serving

BEFORE, AFTER = 5, 12

# Versions of kfake with topic ids, and without them.
VERSIONS: Mapping[str, Mapping[Api, int] | None] = {
    "newest": None,
    "first-ids": {Api.METADATA: 12, Api.FETCH: 13},
    "ids-in-metadata-only": {Api.METADATA: 12, Api.FETCH: 12},
    "without-ids": WITHOUT_IDS,
    "redpanda": REDPANDA,
}

# Time for an instance without ids to accept that a topic is gone, beyond its doubt of one response.
AWAY_SECONDS = 8


def new_ones(client: Client, before: int) -> list[int]:
    """The numbers of a client's messages after the first `before`."""
    return [message["data"]["data"]["n"] for message in client.messages[before:]]


def accounted(client: Client, domain: Domain, before: int) -> bool:
    """Whether each record of the new log has arrived, or was reported as lost."""
    lost = {offset for _, offset in lost_offsets(client, domain.trade)}
    came = {number - 100 for number in new_ones(client, before)}
    return came | lost >= set(range(AFTER))


@pytest.mark.parametrize("way", VERSIONS)
async def test_connected_client_gets_the_records_of_a_recreated_topic(
    way: str, domain: Domain
) -> None:
    """The new log is longer than our position: each record arrives once, or is reported lost."""
    async with (
        run_kfake(dict.fromkeys(domain.topics, 1), versions=VERSIONS[way]) as kfake,
        serving(kfake.bootstrap, domain.settings) as server,
        connected(server) as client,
    ):
        await client.subscribe(channels=["*.trade"])
        publisher = Publisher(kfake.bootstrap)
        await publisher.publish(domain.records(domain.trade, BEFORE))
        await client.received(BEFORE)
        await kfake.delete(domain.trade)
        if way in {"without-ids", "redpanda"}:
            await trio.sleep(AWAY_SECONDS)
        await kfake.create(domain.trade)
        # Another producer: librdkafka would continue the sequence numbers of the former log.
        await Publisher(kfake.bootstrap).publish(domain.records(domain.trade, AFTER, 100))
        await wait_until(lambda: accounted(client, domain, BEFORE))
        assert len(set(new_ones(client, BEFORE))) == len(new_ones(client, BEFORE))
        await no_problem(server)


@pytest.mark.parametrize("way", ["newest", "first-ids", "ids-in-metadata-only"])
@pytest.mark.parametrize("history", ["0", str(64 << 20)], ids=["from-kafka", "from-memory"])
async def test_resume_into_a_recreated_topic_reports_the_loss(
    way: str, history: str, domain: Domain
) -> None:
    """The ack has ids; a resume with an old id is not recovered, and has the reason."""
    async with (
        run_kfake(dict.fromkeys(domain.topics, 1), versions=VERSIONS[way]) as kfake,
        serving(kfake.bootstrap, domain.settings, WS_HISTORY_BYTES=history) as server,
    ):
        async with connected(server) as client:
            ack = await client.subscribe(channels=["*.trade"], positions=True)
            assert ack["ids"][domain.trade], ack
            await Publisher(kfake.bootstrap).publish(domain.records(domain.trade, BEFORE))
            await client.received(BEFORE)
        await kfake.delete(domain.trade)
        await kfake.create(domain.trade)
        await Publisher(kfake.bootstrap).publish(domain.records(domain.trade, AFTER, 100))
        await server.has_read(domain.trade, BEFORE + AFTER)
        positions = {domain.trade: {"0": BEFORE - 1}}
        async with connected(server) as back:
            response = await back.command(
                "resume", channels=["*.trade"], positions=positions, **ids_of(ack)
            )
            assert response["recovered"] is False, response
            assert response["reason"] == "recreated", response
            assert response["ids"][domain.trade] != ack["ids"][domain.trade]
            await wait_until(lambda: accounted(back, domain, 0))
        # With the id of the present log, the resume recovers.
        async with connected(server) as again:
            again_ack = await again.command(
                "resume", channels=["*.trade"], positions=positions, **ids_of(response)
            )
            assert again_ack["recovered"], again_ack
            await again.received(AFTER - BEFORE)
            assert offsets(again) == {0: list(range(BEFORE, AFTER))}


async def test_recreated_topic_on_three_brokers_loses_no_record(
    cluster: Cluster, domain: Domain
) -> None:
    """It gets more records than before at once: each arrives, or is reported lost."""
    await cluster.create_topics(domain.topics)
    async with serving(cluster.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.*"])
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, BEFORE))
        await client.received(BEFORE)
        await cluster.delete_topic(domain.trade)
        await cluster.create_topic(domain.trade)
        await Publisher(cluster.bootstrap).publish(domain.records(domain.trade, AFTER, 100))
        await wait_until(lambda: accounted(client, domain, BEFORE))
        publisher = Publisher(cluster.bootstrap)
        await publisher.publish(domain.records(domain.trade, 1, 200))
        await wait_until(lambda: new_ones(client, BEFORE)[-1:] == [200])
        assert len(set(new_ones(client, BEFORE))) == len(new_ones(client, BEFORE))
