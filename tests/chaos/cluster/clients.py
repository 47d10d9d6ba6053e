"""Clients that note the number of each record, and each loss that they are told of."""

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
from tests.chaos import byhand
from tests.chaos.cluster.truth import Told
from tests.chaos.journal import Journal
from tests.chaos.plan import Seat

__all__ = ["Notes", "follow"]

SILENCE_SECONDS: Final = 5

# The reasons of a loss after which a partition goes on before where it was.
BACKWARDS: Final = frozenset({"recreated", "truncated"})


@attrs.define
class Notes:
    """The notes of one client. `away`: it stays disconnected while this is true.

    `complete`: it has, or was told of, every record with a lower number that is for it.
    """

    seat: Seat
    # By topic.
    categories: Mapping[str, str]
    numbers: list[int] = attrs.field(factory=list)
    got: dict[int, int] = attrs.field(factory=dict)
    times: list[float] = attrs.field(factory=list)
    told: set[Told] = attrs.field(factory=set)
    events: list[tuple[float, str, Any]] = attrs.field(factory=list)
    subscribed: int = 0
    connected: bool = False
    complete: int = 0
    away: AsyncBool = attrs.field(factory=AsyncBool)

    def message(self, number: int) -> None:
        """Note a record that has come now."""
        self.numbers.append(number)
        self.got[number] = self.got.get(number, 0) + 1
        self.times.append(time.monotonic())

    def event(self, kind: str, detail: Any = "") -> None:
        """Note something else that has happened now."""
        self.events.append((time.monotonic(), kind, detail))

    def count(self, kind: str) -> int:
        """The number of events of one kind."""
        return sum(one[1] == kind for one in self.events)

    def lost(self, ranges: Mapping[str, Mapping[Any, Sequence[int]]], reason: str) -> None:
        """Note a loss that the server tells."""
        for topic, of_topic in ranges.items():
            for partition, (first, last) in of_topic.items():
                self.told.add(Told(self.categories[topic], int(partition), first, last, reason))
        self.event("told", f"{reason} {ranges}")


class _ByHand(byhand.Follower):
    """By docs/protocol.md, with the ids of topics and the losses that have a reason."""

    def __init__(self, seat: Seat, notes: Notes) -> None:
        super().__init__(seat, Journal(seat.name))
        self.notes = notes
        self.ids: dict[str, str] = {}
        self.topics: dict[str, str] = {}

    async def follow(self) -> None:
        """Follow until cancelled, but for while `away` is true."""
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.run)
                await self.notes.away.wait_value(bool)
                nursery.cancel_scope.cancel()
            self.notes.connected = False
            self.notes.event("away")
            await self.notes.away.wait_value(operator.not_)

    async def converse(self, socket: byhand.Socket) -> None:
        try:
            await super().converse(socket)
        except byhand.Ended as ended:
            self.notes.connected = False
            self.notes.event("closed", f"{ended.code} {ended.reason}")
            raise

    def command(self) -> dict[str, Any]:
        command = super().command()
        if self.positions and self.ids:
            command["data"]["ids"] = self.ids
        return command

    def take(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "message":
                self.take_message(item)
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
                self.come_back_after = item["data"]["after_ms"] / 1000
            case "replay_complete":
                pass
            case _:
                self.notes.event("error", str(item)[:300])

    def _acknowledged(self, item: dict[str, Any]) -> None:
        self.retry = byhand.FIRST_RETRY_SECONDS
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
                self.reach(topic, partition, offset)
        self.ids.update(item.get("ids") or {})

    def _lost(self, item: dict[str, Any], *, moves: bool) -> None:
        self.notes.lost(item["lost"], item["reason"])
        self.ids.update(item.get("ids") or {})
        if not moves:
            return
        for topic, ranges in item["lost"].items():
            for partition, (_, last) in ranges.items():
                self.positions.setdefault(topic, {})[partition] = last

    def take_message(self, item: dict[str, Any]) -> None:
        topic = self.topics[item["channel"].rpartition(".")[2]]
        partition, _, offset = item["pos"].partition("-")
        self.notes.message(item["data"]["data"]["n"])
        self.reach(topic, partition, int(offset))


async def _by_library(seat: Seat, notes: Notes) -> None:
    wanted = Subscription(channels=seat.channels)
    async with open_client(
        seat.url, wanted, silence_seconds=SILENCE_SECONDS, backoff_cap=3
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
    """Subscribe, and come back with `resume` after whatever happens, until cancelled."""
    if notes.seat.way == "library":
        await _by_library(notes.seat, notes)
    else:
        await _ByHand(notes.seat, notes).follow()
