"""Topics that are missing, hidden, cut off or of others. Kafka is kfake's here."""

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


async def test_retention_that_overtakes_a_live_reader_is_told(kfake: KFake, domain: Domain) -> None:
    """Records that are deleted while a partition cannot be read are told as lost, and no others."""
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


async def test_only_the_topics_of_the_catalogue_are_asked_for(domain: Domain) -> None:
    """Of 2,000 topics of others none is in an answer, at the start or later."""
    strangers = [f"other.{number}" for number in range(2000)]
    topics = dict.fromkeys([*domain.topics, *strangers], 1)
    async with run_kfake(topics) as kfake:
        asked = await kfake.watch(Api.METADATA, strangers[7])
        async with serving(kfake.bootstrap, domain.settings):
            ours = await kfake.watch(Api.METADATA, domain.trade)
            await ours.hit(2)
            assert await asked.hits() == 0


async def test_a_topic_of_the_catalogue_that_is_missing_is_not_created(domain: Domain) -> None:
    """A broker that makes topics when they are asked for is not asked to."""
    topics = {domain.social: 1}
    async with (
        run_kfake(topics, auto_create=True) as kfake,
        serving(kfake.bootstrap, domain.settings),
    ):
        ours = await kfake.watch(Api.METADATA, domain.social)
        await ours.hit(2)
        assert await kfake.leader(domain.trade) == -1


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_topic_missing_from_an_answer_is_not_believed_at_once(
    count: int, kfake: KFake, domain: Domain
) -> None:
    """A resuming client is told of no loss, and a connected one of nothing at all."""
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
            answer = await back.command(
                "resume", channels=["*.trade"], positions=ack["positions"], **ids_of(ack)
            )
            assert answer["recovered"], answer
            await back.received(10)
            await publisher.publish(domain.records(domain.trade, 5, 10))
            for one in (client, back):
                await one.received(15)
                assert offsets(one) == {0: list(range(15))}
                assert [a for a in one.answers if a["type"] == "feed"] == []


@pytest.mark.parametrize("versions", [None, REDPANDA], ids=["newest", "redpanda"])
async def test_an_out_of_range_answer_that_passes_costs_nothing(
    versions: dict[Api, int] | None, domain: Domain
) -> None:
    """A broker says once that our offset is out of range, and then serves it: nothing is lost."""
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


async def test_what_becomes_visible_late_is_not_delivered_as_new(
    kfake: KFake, domain: Domain
) -> None:
    """Of a topic that was hidden at the start, records of yesterday do not come; those since do."""
    publisher = Publisher(kfake.bootstrap)
    yesterday = [one._replace(timestamp=YESTERDAY) for one in domain.records(domain.trade, 3000)]
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
