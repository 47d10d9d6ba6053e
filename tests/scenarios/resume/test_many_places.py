"""A client may come back with a thousand places: to look at them is dear, and seldom done."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio

from odin_ws.history import ResumeCursor
from odin_ws.records import TopicPartition
from odin_ws.testing.scenario import Scenario

CHANNELS = [f"T{number}.trade" for number in range(200)]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each look at all of a client's places."""
    sizes: list[int] = []
    look = ResumeCursor.highest

    def counted(resume_cursor: ResumeCursor) -> Mapping[TopicPartition, int]:
        found = look(resume_cursor)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(ResumeCursor, "highest", counted)
    return sizes


async def test_who_waits_for_us_to_be_there_is_not_looked_at_with_every_record(
    odin_scenario: Scenario, looks: list[int]
) -> None:
    """Positions move with each; of all places there is a look at the beginning and at the end."""
    client = await odin_scenario.connect()
    record = odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    pos = f"{record.partition}-{10**9}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_often, odin_scenario)
        ack = await client.command("reconnect", last_pos=dict.fromkeys(CHANNELS, pos))
    assert ack["status"] == "incomplete"
    assert len(looks) <= 8


async def publish_often(scenario: Scenario) -> None:
    """A record each cycle, for as long as a client that is ahead is waited for, and longer."""
    for _ in range(40):
        scenario.publish("BTC", "trade")
        await trio.sleep(0.05)


async def test_partitions_that_do_not_exist_are_given_up_together(
    odin_scenario: Scenario, looks: list[int]
) -> None:
    """However many there are, all places are looked at once for them."""
    client = await odin_scenario.connect()
    last_pos = {channel: f"{number}-5" for number, channel in enumerate(CHANNELS, 1000)}
    ack = await client.command("reconnect", last_pos=last_pos)
    assert len(ack["lost"]["odin.trades"]) == len(CHANNELS)
    assert looks[0] == len(CHANNELS)
    assert len(looks) <= 6
    assert not any(looks[1:])
