"""A topic is deleted and created again with fewer partitions than it had."""

from __future__ import annotations

import uuid

import pytest
import trio

from tests.integration import kafka
from tests.integration.domain import Domain, ids_of, offsets
from tests.integration.problems import kafka_check, lost_offsets, no_problem
from tests.integration.running_source import Publisher, Sent, until, wait_until
from tests.integration.servers import Server, connected, serving

BEFORE, AFTER = 4, 2


def each_partition(domain: Domain, partitions: int, count: int, first: int = 0) -> list[Sent]:
    """`count` records for each partition, each numbered."""
    return [
        record
        for number in range(partitions)
        for record in domain.records(domain.trade, count, first, number)
    ]


async def has_no_lag(server: Server, domain: Domain) -> None:
    """Wait until the server has read the whole topic."""

    async def read() -> bool:
        return bool((await kafka_check(server))["lag"].get(domain.trade) == 0)

    await until(read)


@pytest.mark.parametrize("history", ["0", str(64 << 20)], ids=["from-kafka", "from-memory"])
async def test_recreated_smaller_topic_is_read_whole(
    apache: str, domain: Domain, history: str
) -> None:
    """Its records arrive once; the partitions that are gone are no problem, and no lag.

    A resume with positions in all former partitions is told what is lost, and gets the rest.
    """
    await kafka.create_topics(apache, domain.topics, BEFORE)
    settings = {**domain.settings, "WS_HISTORY_BYTES": history}
    async with serving(apache, settings) as server, connected(server) as client:
        ack = await client.subscribe(channels=["*.trade"], positions=True)
        await Publisher(apache).publish(each_partition(domain, BEFORE, 3))
        await client.received(3 * BEFORE)
        await kafka.delete_topics(apache, [domain.trade])
        await kafka.create_topics(apache, [domain.trade], AFTER)
        await Publisher(apache).publish(each_partition(domain, AFTER, 5, 100))
        before = 3 * BEFORE
        await client.received(before + 5 * AFTER)
        await no_problem(server)
        await has_no_lag(server, domain)
        await trio.sleep(1)
        found = [
            (message["pos"], message["data"]["data"]["n"]) for message in client.messages[before:]
        ]
        assert sorted(found) == [
            (f"{number}-{offset}", 100 + offset) for number in range(AFTER) for offset in range(5)
        ]
        positions = {domain.trade: {str(number): 2 for number in range(BEFORE)}}
        async with connected(server) as back:
            response = await back.command(
                "resume", channels=["*.trade"], positions=positions, **ids_of(ack)
            )
            assert response["recovered"] is False, response
            assert response["reason"] == "recreated", response
            await back.received(5 * AFTER)
            assert offsets(back) == {number: list(range(5)) for number in range(AFTER)}
        async with connected(server) as other:
            # Without ids only the positions in the gone partitions show it.
            response = await other.command("resume", channels=["*.trade"], positions=positions)
            gone = {number for number, _ in lost_offsets(other, domain.trade)}
            assert "lost" in response or gone, response


async def test_group_member_reads_a_recreated_smaller_topic(apache: str, domain: Domain) -> None:
    """It serves the partitions that are left, and the new records arrive once."""
    await kafka.create_topics(apache, domain.topics, BEFORE)
    group = {
        **domain.settings,
        "KAFKA_ASSIGNMENT": "group",
        "KAFKA_CONSUMER_GROUP": f"group-{uuid.uuid4().hex[:8]}",
    }
    async with serving(apache, group) as server:
        async with connected(server) as client:
            await client.subscribe(channels=["*.trade"])
            await Publisher(apache).publish(each_partition(domain, BEFORE, 3))
            await client.received(3 * BEFORE)
        await kafka.delete_topics(apache, [domain.trade])
        await kafka.create_topics(apache, [domain.trade], AFTER)
        await Publisher(apache).publish(each_partition(domain, AFTER, 5, 100))
        await server.has_read(domain.trade, 3 * BEFORE + 5 * AFTER)
        await no_problem(server)
        await has_no_lag(server, domain)
        async with connected(server) as client:
            await client.subscribe(channels=["*.trade"])
            await Publisher(apache).publish(each_partition(domain, AFTER, 1, 200))
            await client.received(AFTER)
            await wait_until(lambda: sorted(offsets(client)) == list(range(AFTER)))
            assert all(message["data"]["data"]["n"] == 200 for message in client.messages)
        read = await server.metric("ws_kafka_messages_received_total", topic=domain.trade)
        assert read == 3 * BEFORE + 6 * AFTER
