"""Clients that record the number of each record, and each loss that the server reports."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import trio
from trio_util import AsyncBool

from odin_ws_client import (
    ClientError,
    Disconnected,
    FeedChange,
    Message,
    Resumed,
    Subscribed,
    Subscription,
)
from odin_ws_client.trio import open_client
from tests.chaos import handwritten_client
from tests.chaos.cluster.truth import ReportedLoss
from tests.chaos.journal import Journal
from tests.chaos.plan import ClientSpec

__all__ = ["Notes", "follow"]

SILENCE_SECONDS: Final = 5

# Reasons of a loss after which a partition continues at a smaller offset.
BACKWARDS: Final = frozenset({"recreated", "truncated"})


@attrs.define
class Notes:
    """The notes of one client."""

    spec: ClientSpec
    categories: Mapping[str, str]
    """The category of each topic."""
    numbers: list[int] = attrs.field(factory=list)
    """The numbers of received records, in order."""
    got: dict[int, int] = attrs.field(factory=dict)
    """How often each number was received."""
    times: list[float] = attrs.field(factory=list)
    """The arrival time of each record, in monotonic seconds."""
    reported: set[ReportedLoss] = attrs.field(factory=set)
    """The losses that the server reported."""
    events: list[tuple[float, str, Any]] = attrs.field(factory=list)
    subscribed: int = 0
    connected: bool = False
    complete: int = 0
    """The client has every record with a smaller number, or a report of its loss."""
    away: AsyncBool = attrs.field(factory=AsyncBool)
    """While true, the client stays disconnected."""

    def message(self, number: int) -> None:
        """Note a record received now."""
        self.numbers.append(number)
        self.got[number] = self.got.get(number, 0) + 1
        self.times.append(time.monotonic())

    def event(self, kind: str, detail: Any = "") -> None:
        """Note another event of this moment."""
        self.events.append((time.monotonic(), kind, detail))

    def count(self, kind: str) -> int:
        """Return the number of events of one kind."""
        return sum(event[1] == kind for event in self.events)

    def lost(self, ranges: Mapping[str, Mapping[Any, Sequence[int]]], reason: str) -> None:
        """Note a loss that the server reported."""
        for topic, of_topic in ranges.items():
            for partition, (first, last) in of_topic.items():
                self.reported.add(
                    ReportedLoss(self.categories[topic], int(partition), first, last, reason)
                )
        self.event("reported", f"{reason} {ranges}")


class _HandwrittenClient(handwritten_client.ResumingClient):
    """A client written from docs/protocol.md, with topic ids and the reasons of losses."""

    def __init__(self, spec: ClientSpec, notes: Notes) -> None:
        super().__init__(spec, Journal(spec.name))
        self.notes = notes
        self.ids: dict[str, str] = {}
        self.topics: dict[str, str] = {}

    async def follow(self) -> None:
        """Connect again and again until cancelled, except while `away` is true."""
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run)
                await self.notes.away.wait_value(bool)
                nursery.cancel_scope.cancel()
            self.notes.connected = False
            self.notes.event("away")
            await self.notes.away.wait_value(operator.not_)

    async def exchange(self, socket: handwritten_client.Socket) -> None:
        try:
            await super().exchange(socket)
        except handwritten_client.ConnectionEnded as ended:
            self.notes.connected = False
            self.notes.event("closed", f"{ended.code} {ended.reason}")
            raise

    def command(self) -> dict[str, Any]:
        command = super().command()
        if self.positions and self.ids:
            command["data"]["ids"] = self.ids
        return command

    def record_item(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "message":
                self.record_message(item)
            case "subscription_ack" | "resume_ack":
                self._acknowledged(item)
            case "feed" if item["status"] == "lost":
                self._lost(item, moves=item["reason"] in BACKWARDS)
            case "feed":
                self.notes.event("feed", f"{item['status']} {item.get('topics')}")
            case "replay_incomplete":
                self._lost(item, moves=True)
            case "positions":
                self._positions(item)
            case "reconnect":
                self.reconnect_after = item["data"]["after_ms"] / 1000
            case "replay_complete":
                pass
            case _:
                self.notes.event("error", str(item)[:300])

    def _acknowledged(self, item: dict[str, Any]) -> None:
        self.retry = handwritten_client.FIRST_RETRY_SECONDS
        if item["type"] == "subscription_ack":
            self.notes.subscribed += 1
        else:
            self.notes.event("resumed", f"replayed {item['replayed']}")
        self.notes.connected = True
        self.topics.update(item["categories"])
        for topic, offsets in item["positions"].items():
            self.positions.setdefault(topic, {}).update(offsets)
        self.ids.update(item.get("ids") or {})
        if item.get("lost"):
            self._lost(item, moves=True)

    def _positions(self, item: dict[str, Any]) -> None:
        for topic, offsets in item["positions"].items():
            for partition, offset in offsets.items():
                self.advance(topic, partition, offset)
        self.ids.update(item.get("ids") or {})

    def _lost(self, item: dict[str, Any], *, moves: bool) -> None:
        self.notes.lost(item["lost"], item["reason"])
        self.ids.update(item.get("ids") or {})
        if not moves:
            return
        for topic, ranges in item["lost"].items():
            for partition, (_, last) in ranges.items():
                self.positions.setdefault(topic, {})[partition] = last

    def record_message(self, item: dict[str, Any]) -> None:
        topic = self.topics[item["channel"].rpartition(".")[2]]
        partition, _, offset = item["pos"].partition("-")
        self.notes.message(item["data"]["data"]["n"])
        self.advance(topic, partition, int(offset))


async def _follow_with_library(spec: ClientSpec, notes: Notes) -> None:
    wanted = Subscription(channels=spec.channels)
    async with open_client(
        spec.url, wanted, silence_seconds=SILENCE_SECONDS, backoff_cap=3
    ) as client:
        try:
            async for item in client:
                match item:
                    case Message():
                        notes.message(item.data["data"]["n"])
                    case Subscribed():
                        notes.subscribed += 1
                        notes.connected = True
                    case Resumed():
                        notes.connected = True
                        notes.event("resumed", f"replayed {item.replayed}")
                        if item.lost:
                            notes.lost(item.lost, item.reason)
                    case FeedChange():
                        notes.event("feed", item.status)
                    case Disconnected():
                        notes.event("closed" if notes.connected else "rejected", str(item))
                        notes.connected = False
        except ClientError as error:
            notes.event("error", str(error))


async def follow(notes: Notes) -> None:
    """Subscribe, and resume after each disconnection, until cancelled."""
    if notes.spec.kind == "library":
        await _follow_with_library(notes.spec, notes)
    else:
        await _HandwrittenClient(notes.spec, notes).follow()
