"""Members of a consumer group: what resumes there while the group shares out its partitions."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
from typing import Any

from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.records import Assignment, TopicPartition
from tests.session.conversation import FakeClient, Harness, open_harness

TRADES = "odin.trades"
FROM_THE_START = {TRADES: {"0": -1, "1": -1}}


async def own(harness: Harness, **positions: int) -> None:
    """The group gives us these partitions, after these offsets: `p0=4`."""
    ours = {TopicPartition(TRADES, int(name[1:])): at for name, at in positions.items()}
    await harness.feeder.publish(Assignment(ours, partial=True))


async def trade(harness: Harness, partition: int, count: int = 1) -> None:
    """So many trades in one partition, delivered where they are ours."""
    value = json.dumps({"type": "", "data": {}}).encode()
    for _ in range(count):
        record = harness.log.append(TRADES, b"BTC", value, partition=partition)
        await harness.feeder.publish(record)


def positions(client: FakeClient) -> list[str]:
    """The `pos` of every message."""
    return [message["pos"] for message in client.received if message["type"] == "message"]


def ack(client: FakeClient) -> dict[str, Any]:
    """The answer to resume."""
    return next(item for item in client.received if item["type"] == "resume_ack")


async def test_partitions_of_other_instances_are_not_replayed(autojump_clock: MockClock) -> None:
    """A member replays its own partitions, names them, and calls nothing of the others lost."""
    async with open_harness() as harness:
        await own(harness, p0=-1)
        await trade(harness, 0, 3)
        client = FakeClient(harness)
        await client.request("resume", channels=["*.trade"], positions=FROM_THE_START)
        assert ack(client)["recovered"] is True
        assert ack(client)["partitions"] == {TRADES: [0]}
        assert positions(client) == ["0-0", "0-1", "0-2"]


async def test_a_partition_is_taken_away_during_a_replay(autojump_clock: MockClock) -> None:
    """The replay ends with what is left to us; of the other one nothing is left out before it."""
    async with open_harness(retention_bytes=0) as harness:
        await own(harness, p0=-1, p1=-1)
        await trade(harness, 0, 3)
        await trade(harness, 1, 3)
        harness.log_reader.hold()
        client = FakeClient(harness)
        client.send("resume", channels=["*.trade"], positions=FROM_THE_START)
        await wait_all_tasks_blocked()
        await own(harness, p0=2)
        harness.log_reader.release()
        await wait_all_tasks_blocked()
        await trade(harness, 0)
        mine = [position for position in positions(client) if position.startswith("0-")]
        theirs = [position for position in positions(client) if position.startswith("1-")]
        assert mine == ["0-0", "0-1", "0-2", "0-3"]
        assert theirs == ["1-0", "1-1", "1-2"][: len(theirs)]


async def test_a_partition_comes_during_a_replay(autojump_clock: MockClock) -> None:
    """It is live from where the group stopped, and the replay of the others goes on."""
    async with open_harness(retention_bytes=0) as harness:
        await own(harness, p0=-1)
        await trade(harness, 0, 2)
        harness.log_reader.hold()
        client = FakeClient(harness)
        client.send("resume", channels=["*.trade"], positions={TRADES: {"0": -1}})
        await wait_all_tasks_blocked()
        await own(harness, p0=1, p1=4)
        harness.log_reader.release()
        await wait_all_tasks_blocked()
        for _ in range(5):
            harness.log.append(TRADES, b"BTC", b"{}", partition=1)
        await trade(harness, 1)
        assert positions(client) == ["0-0", "0-1", "1-5"]
        assert ack(client)["recovered"] is True
