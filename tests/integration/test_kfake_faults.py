"""Errors of one partition, one broker or one topic stay where they are. Kafka is kfake's here."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

import pytest
import trio

from tests.integration.domain import Domain, ids_of, offsets
from tests.integration.feeding import Publisher, add_partitions, eventually, until
from tests.integration.kfake import REDPANDA, WITHOUT_IDS, Api, Code, KFake, run_kfake
from tests.integration.serving import Client, Server, connected, serving
from tests.integration.trouble import (
    feed_statuses,
    kafka_check,
    lost_offsets,
    no_problem,
    problem_with,
    stays_live,
    told,
)

# What the protocol marks as retriable, and what brokers were seen to answer for one partition.
ERRORS_OF_A_PARTITION = (
    Code.NOT_LEADER_OR_FOLLOWER,
    Code.LEADER_NOT_AVAILABLE,
    Code.FENCED_LEADER_EPOCH,
    Code.UNKNOWN_LEADER_EPOCH,
    Code.REPLICA_NOT_AVAILABLE,
    Code.UNKNOWN_SERVER_ERROR,
    Code.REQUEST_TIMED_OUT,
    Code.OFFSET_NOT_AVAILABLE,
    Code.CORRUPT_MESSAGE,
    Code.KAFKA_STORAGE_ERROR,
    Code.UNKNOWN_TOPIC_OR_PARTITION,
)
ERRORS_OF_A_FETCH = (
    Code.UNKNOWN_SERVER_ERROR,
    Code.FETCH_SESSION_ID_NOT_FOUND,
    Code.INVALID_FETCH_SESSION_EPOCH,
    Code.FETCH_SESSION_TOPIC_ID_ERROR,
    Code.KAFKA_STORAGE_ERROR,
)
PARTITIONS = 3

# A node answers a fetch that brings nothing after KAFKA_FETCH_MAX_WAIT_MS, half a second: two
# fetches a second for each of three nodes. The rest is for retries with back-off.
FETCHES_PER_SECOND = 20

# Epoch milliseconds of a day before these tests.
YESTERDAY = int((time.time() - 24 * 3600) * 1000)

# Trouble that is over within this time is not told; the tests' usual half a second is too short.
PATIENT = {"KAFKA_PROBE_SECONDS": "5"}

# Long enough for a notice that should not come.
WATCHED_SECONDS = 2


@pytest.fixture
async def kfake(domain: Domain) -> AsyncIterator[KFake]:
    """Three nodes; partition n of each topic is led by node n."""
    async with run_kfake(dict.fromkeys(domain.topics, PARTITIONS)) as cluster:
        await spread(cluster, domain)
        yield cluster


async def spread(cluster: KFake, domain: Domain) -> None:
    """Let node n lead partition n of each topic."""
    for topic in domain.topics:
        for partition in range(PARTITIONS):
            await cluster.move(topic, partition, partition)


async def settled(server: Server, client: Client) -> None:
    """Let what was told too much come: as long as a few probes take."""
    await trio.sleep(WATCHED_SECONDS)
    assert feed_statuses(client) == []
    assert stays_live(await kafka_check(server))


async def test_a_partition_error_that_passes_is_retried_and_nobody_is_told(
    kfake: KFake, domain: Domain
) -> None:
    """Three fetches fail for one partition: its records come late, all others in time."""
    publisher = Publisher(kfake.bootstrap)
    settings = domain.settings | PATIENT
    async with serving(kfake.bootstrap, settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.*"])
        for turn, error in enumerate(ERRORS_OF_A_PARTITION):
            first, count = 5 * turn, 5 * turn + 5
            where: dict[str, Any] = {"topic": domain.trade, "partitions": [0]}
            fault = await kfake.fail(Api.FETCH, error=error, count=3, **where)
            await publisher.publish(domain.records(domain.trade, 5, first))
            await publisher.publish(domain.records(domain.trade, 5, first, partition=1))
            await publisher.publish(domain.records(domain.social, 5, first))
            await client.received(3 * count)
            await fault.hit(3)
            assert offsets(client) == {n: list(range(count)) for n in (0, 1)}, error.name
            assert offsets(client, "social") == {0: list(range(count))}, error.name
            assert feed_statuses(client) == [], error.name
        await settled(server, client)


@pytest.mark.parametrize(
    "error",
    [Code.UNKNOWN_SERVER_ERROR, Code.NOT_LEADER_OR_FOLLOWER, Code.CORRUPT_MESSAGE],
    ids=lambda one: one.name.lower(),
)
async def test_a_partition_error_that_lasts_is_told_to_its_subscribers_only(
    error: Code, kfake: KFake, domain: Domain
) -> None:
    """One topic is stalled and health names the partition; the rest goes on; then all is live."""
    publisher = Publisher(kfake.bootstrap)
    async with (
        serving(kfake.bootstrap, domain.settings) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        await client.subscribe(channels=["*.trade"])
        await other.subscribe(channels=["*.social"])
        fault = await kfake.fail(Api.FETCH, error=error, topic=domain.trade, partitions=[0])
        await publisher.publish(domain.records(domain.trade, 5))
        await publisher.publish(domain.records(domain.trade, 5, partition=1))
        await publisher.publish(domain.records(domain.social, 5))
        await client.received(5)
        await other.received(5)
        await told(client, domain.trade, "stalled")
        await problem_with(server, domain.trade, partition=0)
        assert feed_statuses(other) == []
        await fault.remove()
        await told(client, domain.trade, "stalled", "live")
        await client.received(10)
        assert offsets(client) == {0: list(range(5)), 1: list(range(5))}
        await no_problem(server)
        assert feed_statuses(other) == []


async def test_a_partition_that_is_dead_is_retried_with_back_off(
    kfake: KFake, domain: Domain
) -> None:
    """Readers of other brokers are not disturbed: no more fetches than with nothing broken."""
    async with serving(kfake.bootstrap, domain.settings) as server:
        await kfake.fail(
            Api.FETCH,
            Api.LIST_OFFSETS,
            error=Code.NOT_LEADER_OR_FOLLOWER,
            topic=domain.trade,
            partitions=[0],
        )
        await problem_with(server, domain.trade, partition=0)
        fetches = await kfake.watch(Api.FETCH, domain.social)
        layouts = await kfake.watch(Api.METADATA, domain.trade)
        await trio.sleep(WATCHED_SECONDS)
        assert await fetches.hits() < WATCHED_SECONDS * FETCHES_PER_SECOND
        assert await layouts.hits() < WATCHED_SECONDS * 10


async def test_the_lag_of_others_is_told_while_a_partition_is_dead(
    kfake: KFake, domain: Domain
) -> None:
    """A question for an end offset that fails for one partition voids the answers of no other."""
    async with serving(kfake.bootstrap, domain.settings) as server:
        await kfake.fail(
            Api.FETCH,
            Api.LIST_OFFSETS,
            error=Code.NOT_LEADER_OR_FOLLOWER,
            topic=domain.trade,
            partitions=[0],
        )
        await kfake.fail(Api.FETCH, error=Code.UNKNOWN_SERVER_ERROR, topic=domain.social)
        await Publisher(kfake.bootstrap).publish(domain.records(domain.social, 7))

        async def measured() -> bool:
            return bool((await kafka_check(server))["lag"].get(domain.social) == 7)

        await until(measured)


async def test_partitions_added_while_another_is_dead_are_read(
    kfake: KFake, domain: Domain
) -> None:
    """A topic grows while another has lost a leader: what comes to the new partition arrives."""
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.social"])
        await kfake.fail(
            Api.FETCH,
            Api.LIST_OFFSETS,
            error=Code.NOT_LEADER_OR_FOLLOWER,
            topic=domain.trade,
            partitions=[0],
        )
        await kfake.fail(
            Api.METADATA, error=Code.LEADER_NOT_AVAILABLE, topic=domain.trade, partitions=[0]
        )
        await problem_with(server, domain.trade, partition=0)
        await add_partitions(kfake.bootstrap, domain.social, PARTITIONS + 1)
        await Publisher(kfake.bootstrap).publish(
            domain.records(domain.social, 5, partition=PARTITIONS)
        )
        await client.received(5)
        assert offsets(client, "social") == {PARTITIONS: list(range(5))}


async def test_a_partition_without_a_leader_degrades_health_and_names_it(
    kfake: KFake, domain: Domain
) -> None:
    """The layout says that there is no leader: so do health and the notice of the topic."""
    async with (
        serving(kfake.bootstrap, domain.settings) as server,
        connected(server) as client,
        connected(server) as other,
    ):
        await client.subscribe(channels=["*.trade"])
        await other.subscribe(channels=["*.social"])
        where: dict[str, Any] = {"topic": domain.trade, "partitions": [1]}
        await kfake.fail(Api.FETCH, Api.LIST_OFFSETS, error=Code.NOT_LEADER_OR_FOLLOWER, **where)
        await kfake.fail(Api.METADATA, error=Code.LEADER_NOT_AVAILABLE, **where)
        await problem_with(server, domain.trade, "leader", partition=1)
        await told(client, domain.trade, "stalled")
        assert feed_statuses(other) == []
        await kfake.clear()
        await told(client, domain.trade, "stalled", "live")
        await no_problem(server)


async def test_a_fetch_error_that_passes_is_retried_and_nobody_is_told(
    kfake: KFake, domain: Domain
) -> None:
    """Two fetches of one broker fail as a whole: nothing is lost, and no client is told."""
    publisher = Publisher(kfake.bootstrap)
    settings = domain.settings | PATIENT
    async with serving(kfake.bootstrap, settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        for turn, error in enumerate(ERRORS_OF_A_FETCH):
            fault = await kfake.fail(Api.FETCH, error=error, nodes=[0], count=2, top_level=True)
            for partition in range(PARTITIONS):
                records = domain.records(domain.trade, 5, 5 * turn, partition)
                await publisher.publish(records)
            await fault.hit(2)
            count = 5 * turn + 5
            await client.received(count * PARTITIONS)
            assert offsets(client) == {n: list(range(count)) for n in range(PARTITIONS)}, error.name
            assert feed_statuses(client) == [], error.name
        await settled(server, client)


async def test_a_fetch_error_that_lasts_is_no_busy_loop_and_is_named(
    kfake: KFake, domain: Domain
) -> None:
    """Fetches to that broker back off, the log has it once, health names it, others deliver."""
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        fault = await kfake.fail(
            Api.FETCH, error=Code.UNKNOWN_SERVER_ERROR, nodes=[0], top_level=True
        )
        await problem_with(server, domain.trade, partition=0)
        before, lines = await fault.hits(), len(server.lines)
        publisher = Publisher(kfake.bootstrap)
        for partition in range(PARTITIONS):
            await publisher.publish(domain.records(domain.trade, 5, partition=partition))
        await client.received(10)
        await trio.sleep(WATCHED_SECONDS)
        assert await fault.hits() - before < WATCHED_SECONDS * FETCHES_PER_SECOND
        assert len(server.lines) - lines <= 3, "".join(server.lines[lines:])
        await fault.remove()
        await client.received(15)
        await no_problem(server)
        assert offsets(client) == {n: list(range(5)) for n in range(PARTITIONS)}


@pytest.mark.parametrize(
    "error", [Code.UNKNOWN_SERVER_ERROR, Code.NOT_LEADER_OR_FOLLOWER], ids=lambda one: one.name
)
async def test_an_instance_starts_while_questions_about_a_partition_fail(
    error: Code, kfake: KFake, domain: Domain
) -> None:
    """Readiness is reached without that partition; when it answers it is read too."""
    fault = await kfake.fail(Api.LIST_OFFSETS, error=error, topic=domain.trade, partitions=[0])
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.*"])
        publisher = Publisher(kfake.bootstrap)
        await publisher.publish(domain.records(domain.social, 5))
        await client.received(5)
        await problem_with(server, domain.trade, partition=0)
        await fault.remove()
        await no_problem(server)
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(10)
        assert offsets(client) == {0: list(range(5))}


@pytest.mark.parametrize(
    "versions",
    [None, WITHOUT_IDS, REDPANDA, {Api.METADATA: 12, Api.FETCH: 13}],
    ids=["newest", "without-ids", "redpanda", "ids"],
)
async def test_leaders_move_and_nothing_is_lost(
    versions: dict[Api, int] | None, domain: Domain
) -> None:
    """Leaders move ten times while records flow: each arrives once, whatever versions there are."""
    topics = dict.fromkeys(domain.topics, PARTITIONS)
    async with (
        run_kfake(topics, versions=versions) as kfake,
        serving(kfake.bootstrap, domain.settings | PATIENT) as server,
        connected(server) as client,
    ):
        await client.subscribe(channels=["*.trade"])
        publisher = Publisher(kfake.bootstrap)
        for turn in range(10):
            for partition in range(PARTITIONS):
                await kfake.move(domain.trade, partition, (turn + partition) % 3)
                records = domain.records(domain.trade, 10, turn * 10, partition)
                await publisher.publish(records)
        await client.received(100 * PARTITIONS)
        assert offsets(client) == {n: list(range(100)) for n in range(PARTITIONS)}
        assert feed_statuses(client) == []


async def test_a_backlog_of_one_broker_does_not_delay_the_others(
    kfake: KFake, domain: Domain
) -> None:
    """A record of a quiet broker comes within two seconds, whatever waits on a busy one.

    The busy broker gets 1,300 records a second, and WS_MAX_KAFKA_RATE is 1,000.
    """
    rate = {"WS_MAX_KAFKA_RATE": "1000"}
    async with (
        serving(kfake.bootstrap, domain.settings | rate) as server,
        connected(server) as client,
        trio.open_nursery() as nursery,
    ):
        await client.subscribe(channels=["quiet.trade"])
        nursery.start_soon(flood, kfake, domain)
        await until(lambda: is_paced(server))
        publisher = Publisher(kfake.bootstrap)
        for turn in range(5):
            for partition in (1, 2):
                record = domain.record(domain.trade, turn, partition, "quiet")
                await publisher.publish([record])
            with trio.fail_after(2):
                await client.received(2 * turn + 2)
        nursery.cancel_scope.cancel()


async def test_a_slow_broker_does_not_delay_the_others(kfake: KFake, domain: Domain) -> None:
    """One node answers each fetch after four seconds: records of the others come in time."""
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        await kfake.delay(Api.FETCH, 0, 4)
        publisher = Publisher(kfake.bootstrap)
        for turn in range(5):
            for partition in range(PARTITIONS):
                await publisher.publish([domain.record(domain.trade, turn, partition)])
            await eventually(partial(has_all_of, client, (1, 2), turn + 1), 2)
        await kfake.clear()
        await client.received(5 * PARTITIONS)
        assert offsets(client) == {n: list(range(5)) for n in range(PARTITIONS)}


def has_all_of(client: Client, partitions: Iterable[int], count: int) -> bool:
    """Whether a client has the first so many records of these partitions."""
    found = offsets(client)
    return all(found.get(partition) == list(range(count)) for partition in partitions)


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


async def is_paced(server: Server) -> bool:
    """Whether the rate holds records back."""
    return bool((await kafka_check(server))["paced"])


async def flood(kfake: KFake, domain: Domain) -> None:
    """Publish 1,300 records a second to partition 0, which node 0 leads."""
    publisher = Publisher(kfake.bootstrap)
    number = 0
    while True:
        publisher.queue(domain.records(domain.trade, 130, number, key="loud"), [])
        number += 130
        await publisher.flush()
        await trio.sleep(0.1)


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
