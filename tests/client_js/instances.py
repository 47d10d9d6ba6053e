"""Servers that read one log, a publisher, and the check that every record was received."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from odin_ws.address import Address
from odin_ws.assembly import Upstream
from odin_ws.catalogue import default_catalogue
from odin_ws.kafka.source_status import SourceState
from odin_ws.serve import serve
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.ports import LOOPBACK
from tests.client_js.follower import PATIENCE, Callbacks, FollowerEvent

__all__ = ["ALL", "Instance", "Publisher", "check", "memory_log", "restart_twice"]

CATALOGUE: Final = default_catalogue()
TOKENS: Final = ("BTC", "ETH", "a.b.c")
TOPICS: Final = ("odin.trades", "odin.balances")
ALL: Final = {"topics": TOPICS}

# Nobody else's port, and no time for a load balancer to notice.
SETTINGS: Final = Settings(
    ws_addr=Address(LOOPBACK, 0), ws_ops_addr=Address(LOOPBACK, 0), ws_drain_delay_seconds=0
)


class Instance:
    """A server that reads a log, and can be ended in two ways."""

    def __init__(
        self, log: MemoryLog, port: int = 0, history_seconds: float = 0, **settings: Any
    ) -> None:
        self.log = log
        self.source = MemorySource(log, history_seconds=history_seconds, history_records=10_000)
        self._upstream = Upstream(self.source, MemoryLogReader(log))
        self._settings = attrs.evolve(SETTINGS, ws_addr=Address(LOOPBACK, port), **settings)
        self._stop = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[Address]) -> None:
        """Serve; it has started once the log is followed."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                addresses = await nursery.start(
                    serve, self._settings, CATALOGUE, self._upstream, self._stop
                )
                await self.source.status.state.wait_value(SourceState.LIVE)
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


def memory_log() -> MemoryLog:
    """One with the topics of the catalogue, of three partitions each."""
    return MemoryLog(CATALOGUE.topics, partitions=3)


class Publisher:
    """Writes numbered events of all tokens to two topics."""

    def __init__(self, log: MemoryLog) -> None:
        self.published = 0
        self._log = log

    def publish(self, count: int) -> None:
        """Publish so many more."""
        for number in range(self.published, self.published + count):
            topic = TOPICS[number // len(TOKENS) % 2]
            value = {"type": "TEST", "timestamp": 0, "data": number}
            token = TOKENS[number % len(TOKENS)].encode()
            self._log.append(topic, token, json.dumps(value).encode())
        self.published += count


def check(received: Sequence[FollowerEvent], count: int) -> None:
    """Fail unless so many came, each once without the client's help, a channel's in order."""
    by_channel: dict[str, list[int]] = defaultdict(list)
    for message in received:
        by_channel[message.item["channel"]].append(message.item["data"]["data"])
    assert all(several == sorted(several) for several in by_channel.values())
    numbers = [number for several in by_channel.values() for number in several]
    assert sorted(numbers) == list(range(count))
    assert received[-1].duplicates == 0


async def restart_twice(
    nursery: trio.Nursery,
    address: Address,
    instance: Instance,
    client: Callbacks,
    history_seconds: float = 0,
) -> Instance:
    """End the server of a client that has subscribed to ALL twice: drained, and then killed.

    Publishes before, meanwhile and after, and fails unless the client got all of it. Returns the
    last server.
    """
    publisher = Publisher(instance.log)
    received: list[FollowerEvent] = []
    for end in (Instance.drain, Instance.cancel):
        publisher.publish(50)
        received += await client.messages(10)
        await end(instance)
        publisher.publish(50)
        instance = Instance(instance.log, address.port, history_seconds)
        await nursery.start(instance.run)
        publisher.publish(50)
        received += await client.messages(140)
    check(received, publisher.published)
    return instance
