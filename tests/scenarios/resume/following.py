"""Helpers of the resume tests; the resuming client is odin_ws.testing.follower."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import trio

from odin_ws.records import Record
from odin_ws.testing.follower import Follower, Interest, by_topic, key_of
from odin_ws.testing.scenario import Scenario, ScenarioClient

__all__ = ["after", "all_messages", "following", "publish", "publish_long", "send"]


def after(*records: Record, less: int = 0) -> dict[str, dict[int, int]]:
    """Return positions of a client that received these records, or `less` offsets before them."""
    return by_topic({key_of(record): record.offset - less for record in records})


async def send(client: ScenarioClient, kind: str, **data: Any) -> None:
    """Send a command without waiting for its response."""
    await client.send(json.dumps({"type": kind, "data": data}))


async def all_messages(client: ScenarioClient, seconds: float = 5) -> list[dict[str, Any]]:
    """Return all messages until none has come for `seconds`."""
    found = []
    while not await client.silence(seconds):
        found.append(await client.message())
    return found


async def publish(scenario: Scenario, count: int, of: str = "BTC") -> list[Record]:
    """Publish `count` trades of a token, and wait until the server has read them."""
    records = [scenario.publish(of, "trade", number) for number in range(count)]
    await trio.sleep(1)
    return records


async def publish_long(scenario: Scenario, count: int) -> None:
    """Publish records of 1,000 bytes, of seven tokens."""
    for number in range(count):
        scenario.publish(f"T{number % 7}", "trade", [number, "x" * 1000])
    await trio.sleep(count / 1000 + 1)


def following(records: Iterable[Record], *channels: str) -> Follower:
    """Return a client that has received no record of these partitions."""
    follower = Follower(*channels)
    follower.positions = {key_of(record): -1 for record in records}
    follower.interests = [Interest(name, dict(follower.positions)) for name in channels]
    return follower
