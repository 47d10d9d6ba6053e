"""KAFKA_ASSIGNMENT=group: a rebalance leaves no silent gap, errors lose no record."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio

from tests.integration.domain import Domain, ids_of, offsets
from tests.integration.kfake import Api, Code, KFake, run_kfake
from tests.integration.problems import lost_offsets
from tests.integration.running_source import Publisher, wait_until
from tests.integration.servers import Client, Server, connected, serving

PARTITIONS = 6

# Service restart: the client must reconnect.
RECONNECT = 1012


@pytest.fixture
async def kfake(domain: Domain) -> AsyncIterator[KFake]:
    """Three nodes, six partitions of each topic."""
    async with run_kfake(dict.fromkeys(domain.topics, PARTITIONS)) as cluster:
        yield cluster


@pytest.fixture
def settings(domain: Domain) -> dict[str, str]:
    """Settings of an instance in a group that no other test uses."""
    group = {"KAFKA_ASSIGNMENT": "group", "KAFKA_CONSUMER_GROUP": uuid.uuid4().hex}
    return domain.settings | group


async def owned(server: Server, domain: Domain) -> set[int]:
    """The partitions of `trade` that an instance serves."""
    check = (await server.health())["checks"]["kafka"]
    return set(check["partitions"].get(domain.trade, ()))


async def shared_out(domain: Domain, *servers: Server) -> None:
    """Wait until each partition is served by one instance, and each instance serves some."""
    with trio.fail_after(60):
        while True:
            shares = [await owned(server, domain) for server in servers]
            if all(shares) and sorted(n for s in shares for n in s) == list(range(PARTITIONS)):
                return
            await trio.sleep(0.1)


async def publish_round(publisher: Publisher, domain: Domain, number: int) -> None:
    """One record for each partition."""
    for partition in range(PARTITIONS):
        await publisher.publish([domain.record(domain.trade, number, partition)])


def advised(client: Client) -> bool:
    """Whether a client was advised to reconnect before it was closed."""
    return any(response["type"] == "reconnect" for response in client.responses)


@pytest.mark.timeout(180)
async def test_clients_of_a_moved_partition_are_closed_and_resume(
    kfake: KFake, domain: Domain, settings: dict[str, str]
) -> None:
    """A second member joins: clients of moved partitions are closed with 1012, and resume.

    Between the two instances each record arrives: positions never pass unsent records.
    """
    publisher = Publisher(kfake.bootstrap)
    async with serving(kfake.bootstrap, settings) as first, connected(first) as client:
        await shared_out(domain, first)
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        for number in range(5):
            await publish_round(publisher, domain, number)
        await client.received(5 * PARTITIONS)
        async with serving(kfake.bootstrap, settings) as second, trio.open_nursery() as nursery:
            for number in range(5, 10):
                await publish_round(publisher, domain, number)
            await shared_out(domain, first, second)
            code, _ = await client.ended(60)
            assert code == RECONNECT
            assert advised(client)
            for number in range(10, 15):
                await publish_round(publisher, domain, number)
            got = {(p, o) for p, found in offsets(client).items() for o in found}
            positions = reached(ack, client, domain)
            for server in first, second:
                back = await nursery.start(follow, server, domain, positions, ids_of(ack))
                await wait_until(partial(finished, back))
                got |= {(p, o) for p, found in offsets(back).items() for o in found}
                got |= lost_offsets(back, domain.trade)
            everything = {(p, o) for p in range(PARTITIONS) for o in range(15)}
            assert everything <= got, sorted(everything - got)
            nursery.cancel_scope.cancel()


def reached(ack: dict[str, object], client: Client, domain: Domain) -> dict[str, dict[str, int]]:
    """Positions of a client that follows docs/protocol.md: from acks, notices and messages."""
    kept: dict[str, int] = {}
    for response in (ack, *client.responses):
        given = response.get("positions") or {}
        assert isinstance(given, dict)
        for partition, offset in given.get(domain.trade, {}).items():
            kept[partition] = max(offset, kept.get(partition, -1))
    for partition, found in offsets(client).items():
        kept[str(partition)] = max([*found, kept.get(str(partition), -1)])
    return {domain.trade: kept}


async def follow(
    server: Server,
    domain: Domain,
    positions: dict[str, dict[str, int]],
    ids: dict[str, object],
    *,
    task_status: trio.TaskStatus[Client],
) -> None:
    """Resume at an instance with the partitions that it serves, and stay connected."""
    share = await owned(server, domain)
    kept = {domain.trade: {p: o for p, o in positions[domain.trade].items() if int(p) in share}}
    async with connected(server) as client:
        await client.command("resume", channels=["*.trade"], positions=kept, **ids)
        task_status.started(client)
        await trio.sleep_forever()


def finished(client: Client) -> bool:
    """Whether the last record of each partition that the client gets has arrived."""
    found = offsets(client)
    return bool(found) and all(max(of_one) == 14 for of_one in found.values())


@pytest.mark.parametrize(
    "error",
    [
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.NOT_COORDINATOR,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.UNKNOWN_SERVER_ERROR,
    ],
    ids=lambda one: one.name.lower(),
)
async def test_failed_offset_fetch_does_not_skip_records(
    error: Code, kfake: KFake, domain: Domain, settings: dict[str, str]
) -> None:
    """Records from the absence of all members are read after the error."""
    publisher = Publisher(kfake.bootstrap)
    async with serving(kfake.bootstrap, settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        server.process.terminate()
        await server.ended()
    await publisher.publish(domain.records(domain.trade, 7, 5))
    fault = await kfake.fail(Api.OFFSET_FETCH, error=error)
    async with (
        serving(kfake.bootstrap, settings, ready=False) as server,
        connected(server) as client,
    ):
        await client.subscribe(channels=["*.trade"])
        await fault.hit(2)
        await fault.remove()
        await client.received(7)
        assert offsets(client) == {0: list(range(5, 12))}


@pytest.mark.parametrize(
    ("api", "error"),
    [
        (Api.HEARTBEAT, Code.NOT_COORDINATOR),
        (Api.HEARTBEAT, Code.UNKNOWN_MEMBER_ID),
        (Api.HEARTBEAT, Code.ILLEGAL_GENERATION),
        (Api.HEARTBEAT, Code.REBALANCE_IN_PROGRESS),
        (Api.OFFSET_COMMIT, Code.NOT_COORDINATOR),
        (Api.OFFSET_COMMIT, Code.REQUEST_TIMED_OUT),
        (Api.OFFSET_COMMIT, Code.UNKNOWN_SERVER_ERROR),
    ],
    ids=lambda one: one.name.lower(),
)
async def test_errors_of_the_group_lose_no_record(
    api: Api, error: Code, kfake: KFake, domain: Domain, settings: dict[str, str]
) -> None:
    """The member joins again: a client has each record, also if it had to reconnect."""
    publisher = Publisher(kfake.bootstrap)
    async with serving(kfake.bootstrap, settings) as server, connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        await publisher.publish(domain.records(domain.trade, 5))
        await client.received(5)
        fault = await kfake.fail(api, error=error, count=2)
        await publisher.publish(domain.records(domain.trade, 5, 5))
        await fault.hit(1)
        await fault.remove()
        await shared_out(domain, server)
        await publisher.publish(domain.records(domain.trade, 5, 10))
        await wait_until(lambda: client.closed or len(client.messages) >= 15)
        if client.closed is None:
            assert offsets(client) == {0: list(range(15))}
            return
        assert client.closed[0] == RECONNECT
        async with connected(server) as back:
            positions = reached(ack, client, domain)
            response = await back.command(
                "resume", channels=["*.trade"], positions=positions, **ids_of(ack)
            )
            assert response["recovered"], response
            await back.received(15 - len(client.messages))
            assert offsets(client)[0] + offsets(back)[0] == list(range(15))


@pytest.mark.parametrize(
    "api",
    [Api.FIND_COORDINATOR, Api.JOIN_GROUP, Api.SYNC_GROUP],
    ids=lambda one: one.name.lower(),
)
async def test_unavailable_group_is_joined_later(
    api: Api, kfake: KFake, domain: Domain, settings: dict[str, str]
) -> None:
    """The coordinator is not available at the start: the instance waits, and then serves."""
    fault = await kfake.fail(api, error=Code.COORDINATOR_NOT_AVAILABLE, count=3)
    async with serving(kfake.bootstrap, settings) as server, connected(server) as client:
        assert await fault.hits() == 3
        await shared_out(domain, server)
        await client.subscribe(channels=["*.trade"])
        await Publisher(kfake.bootstrap).publish(domain.records(domain.trade, 5))
        await client.received(5)
        assert offsets(client) == {0: list(range(5))}


async def test_moved_coordinator_loses_no_record(
    kfake: KFake, domain: Domain, settings: dict[str, str]
) -> None:
    """The coordinator moves five times: the client has each record, without a notice."""
    publisher = Publisher(kfake.bootstrap)
    async with serving(kfake.bootstrap, settings) as server, connected(server) as client:
        await client.subscribe(channels=["*.trade"])
        for turn in range(5):
            await publisher.publish(domain.records(domain.trade, 5, 5 * turn))
            await client.received(5 * turn + 5)
            await kfake.rehash()
        await publisher.publish(domain.records(domain.trade, 5, 25))
        await client.received(30)
        assert offsets(client) == {0: list(range(30))}
        assert client.closed is None
