"""A stream that is torn off after every byte, and what a browser resumes with from there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from odin_ws.settings import Settings
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.http_api.event_source import Event, EventParser, EventSource

__all__ = [
    "MARKERS",
    "PARTITIONS",
    "Key",
    "Torn",
    "followed",
    "key_of",
    "keys_of",
    "messages_of",
    "publish_markers",
    "received",
    "torn_states",
    "two_instances",
]

PARTITIONS: Final = 3

# What tells a record from all others: category, position, and what was published.
Key = tuple[str, str, Any]

# The token of the last message of each partition: who has all of these has got everything.
_MARKER: Final = "END"

# By category, the channels to subscribe to beside others, so that the markers come.
MARKERS: Final = {category: f"{_MARKER}.{category}" for category in ("trade", "social")}


@attrs.frozen
class Torn:
    """What a browser has when its connection ends: the events that were whole, and its last id."""

    events: tuple[Event, ...]
    last_event_id: str


def torn_states(content: bytes) -> Iterator[Torn]:
    """The states that a browser is in after each byte of a response's content, each once."""
    parser, events, seen = EventParser(), list[Event](), None
    for at in range(len(content)):
        events += parser.feed(content[at : at + 1])
        state = len(events), parser.last_event_id
        if state != seen:
            seen = state
            yield Torn(tuple(events), parser.last_event_id)


def messages_of(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The messages in events, those of batches too."""
    found: list[dict[str, Any]] = []
    for event in events:
        if event.name == "message":
            found.append(event.json)
        elif event.name == "batch":
            found += event.json["messages"]
    return found


def key_of(message: dict[str, Any]) -> Key:
    """The key of a message."""
    return message["channel"].rpartition(".")[2], message["pos"], message["data"]["data"]


def keys_of(events: Iterable[Event]) -> list[Key]:
    """The keys of the messages in events, markers left out."""
    return [
        key_of(message)
        for message in messages_of(events)
        if not message["channel"].startswith(f"{_MARKER}.")
    ]


@asynccontextmanager
async def two_instances(**settings: Any) -> AsyncIterator[tuple[Scenario, Scenario]]:
    """Two servers of one log."""
    async with (
        open_scenario(Settings(**settings), partitions=PARTITIONS) as one,
        open_scenario(Settings(**settings), partitions=PARTITIONS, log=one.log) as other,
    ):
        yield one, other


def publish_markers(scenario: Scenario) -> None:
    """Publish the last message of each partition."""
    value = json.dumps({"type": "TRADE_EXECUTED", "timestamp": 0, "data": None}).encode()
    for topic in "odin.trades", "odin.social":
        for partition in range(PARTITIONS):
            scenario.log.append(topic, _MARKER.encode(), value, partition=partition)


async def followed(
    scenario: Scenario, query: str, last_event_id: str, markers: int
) -> tuple[list[Event], list[Key]]:
    """Resume, and receive until so many markers have come; returns the notices and the keys."""
    source = await EventSource.open(scenario, query, last_event_id=last_event_id)
    assert source.status == 200, source.content
    events: list[Event] = []
    while markers:
        one = await source.event()
        events.append(one)
        markers -= len(messages_of([one])) - len(keys_of([one]))
    source.stream.break_off()
    await trio.lowlevel.checkpoint()
    return [event for event in events if not messages_of([event])], keys_of(events)


async def received(source: EventSource) -> bytes:
    """All that has come to a source by now; its connection ends."""
    with trio.move_on_after(0.5):
        while True:
            await source.event()
    source.stream.break_off()
    return source.received
