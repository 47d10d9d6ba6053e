"""A resume with 1,000 positions: all positions are evaluated rarely, because that is expensive."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from odin_ws.history import ResumeCursor
from odin_ws.records import TopicPartition
from odin_ws.testing.scenario import Scenario

CHANNELS = [f"T{number}.trade" for number in range(200)]


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of positions at each call of `ResumeCursor.highest`."""
    sizes: list[int] = []
    highest = ResumeCursor.highest

    def counted(resume_cursor: ResumeCursor) -> Mapping[TopicPartition, int]:
        found = highest(resume_cursor)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(ResumeCursor, "highest", counted)
    return sizes


async def test_positions_of_client_ahead_are_not_evaluated_with_each_record(
    odin_scenario: Scenario, evaluations: list[int]
) -> None:
    """While the instance catches up with the client, they are evaluated at begin and end only."""
    client = await odin_scenario.connect()
    record = odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    pos = f"{record.partition}-{10**9}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_often, odin_scenario)
        ack = await client.command("reconnect", last_pos=dict.fromkeys(CHANNELS, pos))
    assert ack["status"] == "incomplete"
    assert len(evaluations) <= 8


async def publish_often(scenario: Scenario) -> None:
    """Publish a record in each cycle, for longer than the server waits for a client ahead."""
    for _ in range(40):
        scenario.publish("BTC", "trade")
        await trio.sleep(0.05)


async def test_missing_partitions_are_reported_lost_in_one_evaluation(
    odin_scenario: Scenario, evaluations: list[int]
) -> None:
    """The positions of all channels are evaluated once."""
    client = await odin_scenario.connect()
    last_pos = {channel: f"{number}-5" for number, channel in enumerate(CHANNELS, 1000)}
    ack = await client.command("reconnect", last_pos=last_pos)
    assert len(ack["lost"]["odin.trades"]) == len(CHANNELS)
    assert evaluations[0] == len(CHANNELS)
    assert len(evaluations) <= 6
    assert not any(evaluations[1:])
