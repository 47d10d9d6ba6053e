"""Errors of one partition do not affect others. Kafka is kfake here."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.integration.domain import Domain, offsets
from tests.integration.kfake import Api, Code, KFake
from tests.integration.kfake_faults import (
    FETCHES_PER_SECOND,
    PARTITIONS,
    PATIENT,
    WATCHED_SECONDS,
    fail_partition,
    settled,
)
from tests.integration.problems import (
    feed_statuses,
    kafka_check,
    no_problem,
    problem_with,
    subscribed,
    wait_for_statuses,
)
from tests.integration.running_source import Publisher, add_partitions, until
from tests.integration.servers import connected, serving

# Errors that the protocol marks as retriable, and ones that brokers returned for one partition.
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


async def test_transient_partition_error_is_retried_without_a_notice(
    kfake: KFake, domain: Domain
) -> None:
    """Three fetches fail for one partition: its records arrive late, all others in time."""
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
async def test_lasting_partition_error_is_reported_to_its_subscribers_only(
    error: Code, kfake: KFake, domain: Domain
) -> None:
    """Its topic is stalled and health names it; other topics continue; then all are live."""
    publisher = Publisher(kfake.bootstrap)
    async with (
        serving(kfake.bootstrap, domain.settings) as server,
        subscribed(server, "*.trade") as client,
        subscribed(server, "*.social") as other,
    ):
        fault = await kfake.fail(Api.FETCH, error=error, topic=domain.trade, partitions=[0])
        await publisher.publish(domain.records(domain.trade, 5))
        await publisher.publish(domain.records(domain.trade, 5, partition=1))
        await publisher.publish(domain.records(domain.social, 5))
        await client.received(5)
        await other.received(5)
        await wait_for_statuses(client, domain.trade, "stalled")
        await problem_with(server, domain.trade, partition=0)
        assert feed_statuses(other) == []
        await fault.remove()
        await wait_for_statuses(client, domain.trade, "stalled", "live")
        await client.received(10)
        assert offsets(client) == {0: list(range(5)), 1: list(range(5))}
        await no_problem(server)
        assert feed_statuses(other) == []


async def test_failing_partition_is_retried_with_back_off(kfake: KFake, domain: Domain) -> None:
    """Other brokers get no more fetches than without the error."""
    async with serving(kfake.bootstrap, domain.settings) as server:
        await fail_partition(kfake, domain.trade)
        await problem_with(server, domain.trade, partition=0)
        fetches = await kfake.watch(Api.FETCH, domain.social)
        layouts = await kfake.watch(Api.METADATA, domain.trade)
        await trio.sleep(WATCHED_SECONDS)
        assert await fetches.hits() < WATCHED_SECONDS * FETCHES_PER_SECOND
        assert await layouts.hits() < WATCHED_SECONDS * 10


async def test_lag_of_others_is_measured_while_a_partition_fails(
    kfake: KFake, domain: Domain
) -> None:
    """An offset query that fails for one partition does not discard the results of others."""
    async with serving(kfake.bootstrap, domain.settings) as server:
        await fail_partition(kfake, domain.trade)
        await kfake.fail(Api.FETCH, error=Code.UNKNOWN_SERVER_ERROR, topic=domain.social)
        await Publisher(kfake.bootstrap).publish(domain.records(domain.social, 7))

        async def measured() -> bool:
            return bool((await kafka_check(server))["lag"].get(domain.social) == 7)

        await until(measured)


async def test_partitions_added_while_another_fails_are_read(kfake: KFake, domain: Domain) -> None:
    """A topic grows while another has lost a leader: records of the new partition arrive."""
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.social"])
        await fail_partition(kfake, domain.trade)
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


async def test_partition_without_a_leader_degrades_health(kfake: KFake, domain: Domain) -> None:
    """The metadata has no leader: health and the topic's notice say so."""
    async with (
        serving(kfake.bootstrap, domain.settings) as server,
        subscribed(server, "*.trade") as client,
        subscribed(server, "*.social") as other,
    ):
        where: dict[str, Any] = {"topic": domain.trade, "partitions": [1]}
        await fail_partition(kfake, domain.trade, 1)
        await kfake.fail(Api.METADATA, error=Code.LEADER_NOT_AVAILABLE, **where)
        await problem_with(server, domain.trade, "leader", partition=1)
        await wait_for_statuses(client, domain.trade, "stalled")
        assert feed_statuses(other) == []
        await kfake.clear()
        await wait_for_statuses(client, domain.trade, "stalled", "live")
        await no_problem(server)


@pytest.mark.parametrize(
    "error", [Code.UNKNOWN_SERVER_ERROR, Code.NOT_LEADER_OR_FOLLOWER], ids=lambda one: one.name
)
async def test_instance_starts_while_queries_of_a_partition_fail(
    error: Code, kfake: KFake, domain: Domain
) -> None:
    """The instance becomes ready without that partition, and reads it once it answers."""
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
