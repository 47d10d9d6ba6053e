"""docs/odin-ws.js with the server itself, on ports: nothing is missing, and nothing comes twice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from odin_ws.address import Address
from odin_ws.catalogue import default_catalogue
from odin_ws.service import Addresses, Upstream, serve
from odin_ws.settings import Settings
from odin_ws.source.feed import FeedStatus
from odin_ws.source.memory import MemoryArchive, MemoryLog, MemorySource
from odin_ws.testing.ports import LOOPBACK
from tests.client_js.fake import FakeServer
from tests.client_js.following import PATIENCE, follow
from tests.client_js.relay import cutting_relay

CATALOGUE = default_catalogue()
TOKENS = ("BTC", "ETH", "a.b.c")
ALL = {"topics": ["odin.trades", "odin.balances"]}

# Nobody else's port, and no time for a load balancer to notice.
SETTINGS = Settings(
    ws_addr=Address(LOOPBACK, 0), ws_ops_addr=Address(LOOPBACK, 0), ws_drain_delay=0
)


class Instance:
    """A server that reads a log, and can be ended in two ways."""

    def __init__(self, log: MemoryLog, port: int, history_seconds: float) -> None:
        self.source = MemorySource(log, history_seconds=history_seconds, history_records=10_000)
        self._upstream = Upstream(self.source, MemoryArchive(log))
        self._settings = attrs.evolve(SETTINGS, ws_addr=Address(LOOPBACK, port))
        self._stop = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[Address]) -> None:
        """Serve; it has started once the log is followed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                addresses: Addresses = await nursery.start(
                    serve, self._settings, CATALOGUE, self._upstream, self._stop
                )
                await self.source.feed.status.wait_value(FeedStatus.LIVE)
                task_status.started(addresses.subscribers)
        self._ended.set()

    async def drain(self) -> None:
        """End as after SIGTERM."""
        self._stop.set()
        await self._has_ended()

    async def cancel(self) -> None:
        """End at once."""
        self._scope.cancel()
        await self._has_ended()

    async def _has_ended(self) -> None:
        with trio.fail_after(PATIENCE):
            await self._ended.wait()


@asynccontextmanager
async def running(
    log: MemoryLog, port: int = 0, history_seconds: float = 0
) -> AsyncIterator[tuple[Instance, Address]]:
    """Run a server for the length of the block, if that does not end it."""
    instance = Instance(log, port, history_seconds)
    async with trio.open_nursery() as nursery:
        yield instance, await nursery.start(instance.run)
        await instance.cancel()


class Publisher:
    """Writes numbered events of all tokens to two topics."""

    def __init__(self) -> None:
        self.log = MemoryLog(CATALOGUE.topics, partitions=3)
        self.published = 0

    def publish(self, count: int) -> None:
        """Publish so many more."""
        for number in range(self.published, self.published + count):
            topic = ALL["topics"][number // len(TOKENS) % 2]
            value = {"type": "TEST", "timestamp": 0, "data": number}
            token = TOKENS[number % len(TOKENS)].encode()
            self.log.append(topic, token, json.dumps(value).encode())
        self.published += count


def check(messages: Sequence[dict[str, Any]], numbers: Iterable[int]) -> None:
    """Fail unless these came, each once, and those of a channel in their order."""
    by_channel: dict[str, list[int]] = defaultdict(list)
    for message in messages:
        by_channel[message["channel"]].append(message["data"]["data"])
    assert all(several == sorted(several) for several in by_channel.values())
    assert sorted(one for several in by_channel.values() for one in several) == list(numbers)


async def test_connections_that_are_cut(node: list[str]) -> None:
    """However often and wherever connections are cut, every record comes once and in order."""
    publisher = Publisher()
    async with (
        running(publisher.log) as (_instance, address),
        cutting_relay(address, first=2000, more=1000) as relay,
        follow(node, f"ws://{relay}/ws", ALL) as follower,
    ):
        await follower.notice("subscription_ack")
        messages: list[dict[str, Any]] = []
        cuts = 0
        for _ in range(20):
            publisher.publish(20)
            while len(messages) < publisher.published:
                said = await follower.said()
                if said.kind == "message":
                    messages.append(said.item)
                else:
                    cuts += said.item["type"] == "disconnected"
    check(messages, range(publisher.published))
    assert cuts > 5
    assert said.duplicates == 0


@pytest.mark.parametrize("history_seconds", [0, 300])
async def test_servers_that_end(node: list[str], history_seconds: float) -> None:
    """What is published while a server is away comes from the next one, whether that has it in
    memory or has to ask the log.
    """
    publisher = Publisher()
    port, url = 0, ""
    messages: list[dict[str, Any]] = []
    async with running(publisher.log) as (instance, address):
        port, url = address.port, f"ws://{address}/ws"
        async with follow(node, url, ALL) as follower:
            await follower.notice("subscription_ack")
            for end in (Instance.drain, Instance.cancel):
                publisher.publish(50)
                messages += await follower.messages(50)
                await end(instance)
                publisher.publish(50)
                async with running(publisher.log, port, history_seconds) as (instance, _address):
                    pass
