"""Errors and backlogs of one broker do not affect others. Kafka is kfake here."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest
import trio

from tests.integration.domain import Domain, offsets
from tests.integration.kfake import REDPANDA, WITHOUT_IDS, Api, Code, KFake, run_kfake
from tests.integration.kfake_faults import (
    FETCHES_PER_SECOND,
    PARTITIONS,
    PATIENT,
    WATCHED_SECONDS,
    settled,
)
from tests.integration.problems import (
    feed_statuses,
    kafka_check,
    no_problem,
    problem_with,
)
from tests.integration.running_source import Publisher, until, wait_until
from tests.integration.servers import Client, Server, connected, serving

ERRORS_OF_A_FETCH = (
    Code.UNKNOWN_SERVER_ERROR,
    Code.FETCH_SESSION_ID_NOT_FOUND,
    Code.INVALID_FETCH_SESSION_EPOCH,
    Code.FETCH_SESSION_TOPIC_ID_ERROR,
    Code.KAFKA_STORAGE_ERROR,
)


async def test_transient_fetch_error_is_retried_without_a_notice(
    kfake: KFake, domain: Domain
) -> None:
    """Two fetches of one broker fail as a whole: no record is lost, and no client gets a notice."""
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


async def test_lasting_fetch_error_backs_off_and_is_reported(kfake: KFake, domain: Domain) -> None:
    """Its fetches back off, the log has one line, health names it, and others deliver."""
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
    "versions",
    [None, WITHOUT_IDS, REDPANDA, {Api.METADATA: 12, Api.FETCH: 13}],
    ids=["newest", "without-ids", "redpanda", "ids"],
)
async def test_moving_leaders_lose_no_record(
    versions: dict[Api, int] | None, domain: Domain
) -> None:
    """Leaders move ten times while records flow: each arrives once, with any protocol versions."""
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


async def test_backlog_of_one_broker_does_not_delay_others(kfake: KFake, domain: Domain) -> None:
    """A record of a quiet broker arrives within two seconds, whatever waits on a busy one.

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


async def test_slow_broker_does_not_delay_others(kfake: KFake, domain: Domain) -> None:
    """One node answers each fetch after four seconds: records of other nodes arrive in time."""
    async with serving(kfake.bootstrap, domain.settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        await kfake.delay(Api.FETCH, 0, 4)
        publisher = Publisher(kfake.bootstrap)
        for turn in range(5):
            for partition in range(PARTITIONS):
                await publisher.publish([domain.record(domain.trade, turn, partition)])
            await wait_until(partial(has_all_of, client, (1, 2), turn + 1), 2)
        await kfake.clear()
        await client.received(5 * PARTITIONS)
        assert offsets(client) == {n: list(range(5)) for n in range(PARTITIONS)}


def has_all_of(client: Client, partitions: Iterable[int], count: int) -> bool:
    """Whether a client has the first `count` records of these partitions."""
    found = offsets(client)
    return all(found.get(partition) == list(range(count)) for partition in partitions)


async def is_paced(server: Server) -> bool:
    """Whether the rate limit holds records back."""
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
