"""Missing, hidden, truncated and foreign topics. Kafka is kfake here."""

from __future__ import annotations

import time

import pytest
import trio

from tests.integration.domain import Domain, ids_of, offsets
from tests.integration.kfake import REDPANDA, Api, Code, KFake, run_kfake
from tests.integration.kfake_faults import (
    WATCHED_SECONDS,
)
from tests.integration.problems import (
    lost_offsets,
)
from tests.integration.running_source import Publisher
from tests.integration.servers import connected, serving

# Epoch milliseconds of a day before these tests.
YESTERDAY = int((time.time() - 24 * 3600) * 1000)


async def test_records_deleted_before_a_live_reader_are_reported_lost(
    kfake: KFake, domain: Domain
) -> None:
    """Records deleted while a partition cannot be read are reported as lost, and no others."""
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        publisher = Publisher(kfake.bootstrap)
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        fault = await kfake.fail(
            Api.FETCH, error=Code.NOT_LEADER_OR_FOLLOWER, topic=domain.trade, partitions=[0]
        )
        await fault.hit()
        await publisher.publish(domain.records(domain.trade, 10, 5))
        await kfake.delete_records(domain.trade, 0, 12)
        await fault.remove()
        await client.received(8)
        assert offsets(client) == {0: [*range(5), *range(12, 15)]}
        assert lost_offsets(client, domain.trade) == {(0, offset) for offset in range(5, 12)}


async def test_only_topics_of_the_catalogue_are_requested(domain: Domain) -> None:
    """Of 2,000 other topics none is in a response, at the start or later."""
    strangers = [f"other.{number}" for number in range(2000)]
    topics = dict.fromkeys([*domain.topics, *strangers], 1)
    async with run_kfake(topics) as kfake:
        asked = await kfake.watch(Api.METADATA, strangers[7])
        async with serving(kfake.bootstrap, domain.settings):
            ours = await kfake.watch(Api.METADATA, domain.trade)
            await ours.hit(2)
            assert await asked.hits() == 0


async def test_missing_topic_is_not_created(domain: Domain) -> None:
    """No request lets a broker with automatic creation create it."""
    topics = {domain.social: 1}
    async with (
        run_kfake(topics, auto_create=True) as kfake,
        serving(kfake.bootstrap, domain.settings),
    ):
        ours = await kfake.watch(Api.METADATA, domain.social)
        await ours.hit(2)
        assert await kfake.leader(domain.trade) == -1


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_topic_missing_from_one_response_is_not_reported(
    count: int, kfake: KFake, domain: Domain
) -> None:
    """A resuming client gets no loss, and a connected one no notice."""
    publisher = Publisher(kfake.bootstrap)
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        fault = await kfake.fail(
            Api.METADATA,
            error=Code.UNKNOWN_TOPIC_OR_PARTITION,
            topic=domain.trade,
            count=count,
        )
        await publisher.publish(domain.records(domain.trade, 5, 5))
        await fault.hit(count)
        async with connected(server) as back:
            response = await back.command(
                "resume", channels=["*.trade"], positions=ack["positions"], **ids_of(ack)
            )
            assert response["recovered"], response
            await back.received(10)
            await publisher.publish(domain.records(domain.trade, 5, 10))
            for one in (client, back):
                await one.received(15)
                assert offsets(one) == {0: list(range(15))}
                assert [a for a in one.responses if a["type"] == "feed"] == []


@pytest.mark.parametrize("versions", [None, REDPANDA], ids=["newest", "redpanda"])
async def test_transient_offset_out_of_range_loses_no_record(
    versions: dict[Api, int] | None, domain: Domain
) -> None:
    """A broker returns "offset out of range" once, then serves the offset: no record is lost."""
    topics = dict.fromkeys(domain.topics, 1)
    async with (
        run_kfake(topics, versions=versions) as kfake,
        serving(kfake.bootstrap, domain.settings) as server,
        connected(server) as client,
    ):
        await client.subscribe(channels=["*.trade"])
        publisher = Publisher(kfake.bootstrap)
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        fault = await kfake.fail(
            Api.FETCH, error=Code.OFFSET_OUT_OF_RANGE, topic=domain.trade, partitions=[0], count=1
        )
        await fault.hit()
        await publisher.publish(domain.records(domain.trade, 5, 5))
        await client.received(10)
        assert offsets(client) == {0: list(range(10))}
        assert await server.metric("ws_kafka_records_lost_total") == 0


async def test_old_records_of_a_late_visible_topic_are_not_delivered(
    kfake: KFake, domain: Domain
) -> None:
    """Of a topic hidden at the start only records published since are delivered."""
    publisher = Publisher(kfake.bootstrap)
    yesterday = [
        record._replace(timestamp=YESTERDAY) for record in domain.records(domain.trade, 3000)
    ]
    await publisher.publish(yesterday)
    fault = await kfake.fail(
        Api.METADATA,
        Api.LIST_OFFSETS,
        Api.FETCH,
        error=Code.UNKNOWN_TOPIC_OR_PARTITION,
        topic=domain.trade,
    )
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        await fault.remove()
        await publisher.publish(domain.records(domain.trade, 20, 3000))
        await client.received(20)
        await trio.sleep(WATCHED_SECONDS)
        assert offsets(client) == {0: list(range(3000, 3020))}
