"""The JavaScript client with a server: nothing is missing, and nothing comes twice."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio

from odin_ws.address import Address
from odin_ws.catalogue import default_catalogue
from odin_ws.kafka.source_status import FeedStatus
from odin_ws.service import Upstream, serve
from odin_ws.settings import Secret, Settings
from odin_ws.testing.memory_log import MemoryArchive, MemoryLog, MemorySource
from odin_ws.testing.ports import LOOPBACK
from tests.client_js.following import PATIENCE, Said, follow
from tests.client_js.relay import cutting_relay
from tests.issuing import SECRET, issuer

CATALOGUE = default_catalogue()
TOKENS = ("BTC", "ETH", "a.b.c")
TOPICS = ("odin.trades", "odin.balances")
ALL = {"topics": TOPICS}

# Nobody else's port, and no time for a load balancer to notice.
SETTINGS = Settings(
    ws_addr=Address(LOOPBACK, 0), ws_ops_addr=Address(LOOPBACK, 0), ws_drain_delay=0
)


class Instance:
    """A server that reads a log, and can be ended in two ways."""

    def __init__(
        self, log: MemoryLog, port: int = 0, history_seconds: float = 0, **settings: Any
    ) -> None:
        self.source = MemorySource(log, history_seconds=history_seconds, history_records=10_000)
        self._upstream = Upstream(self.source, MemoryArchive(log))
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


class Publisher:
    """Writes numbered events of all tokens to two topics."""

    def __init__(self) -> None:
        self.log = MemoryLog(CATALOGUE.topics, partitions=3)
        self.published = 0

    def publish(self, count: int) -> None:
        """Publish so many more."""
        for number in range(self.published, self.published + count):
            topic = TOPICS[number // len(TOKENS) % 2]
            value = {"type": "TEST", "timestamp": 0, "data": number}
            token = TOKENS[number % len(TOKENS)].encode()
            self.log.append(topic, token, json.dumps(value).encode())
        self.published += count


def check(received: Sequence[Said], count: int) -> None:
    """Fail unless so many came, each once without the client's help, a channel's in order."""
    by_channel: dict[str, list[int]] = defaultdict(list)
    for message in received:
        by_channel[message.item["channel"]].append(message.item["data"]["data"])
    assert all(several == sorted(several) for several in by_channel.values())
    numbers = [number for several in by_channel.values() for number in several]
    assert sorted(numbers) == list(range(count))
    assert received[-1].duplicates == 0


async def test_connections_that_are_cut(nursery: trio.Nursery, node: list[str]) -> None:
    """However often and wherever connections are cut, every record comes once and in order."""
    publisher = Publisher()
    instance = Instance(publisher.log)
    address = await nursery.start(instance.run)
    received: list[Said] = []
    async with (
        cutting_relay(address, first=2000, more=1000) as relay,
        follow(node, f"ws://{relay}/ws", ALL) as follower,
    ):
        await follower.notice("subscription_ack")
        resumed = 0
        while publisher.published < 400:
            publisher.publish(20)
            while len(received) < publisher.published:
                said = await follower.said()
                if said.kind == "message":
                    received.append(said)
                resumed += said.item["type"] == "resume_ack"
    check(received, publisher.published)
    assert resumed > 5


@pytest.mark.parametrize("history_seconds", [0, 300])
async def test_servers_that_end(
    nursery: trio.Nursery, node: list[str], history_seconds: float
) -> None:
    """What is published while no server is there comes from the next: its memory, or its log."""
    publisher = Publisher()
    instance = Instance(publisher.log)
    address = await nursery.start(instance.run)
    async with follow(node, f"ws://{address}/ws", ALL) as follower:
        await follower.notice("subscription_ack")
        received = []
        for end in (Instance.drain, Instance.cancel):
            publisher.publish(50)
            received += await follower.messages(10)
            await end(instance)
            publisher.publish(50)
            instance = Instance(publisher.log, address.port, history_seconds)
            await nursery.start(instance.run)
            publisher.publish(50)
            received += await follower.messages(140)
        await follower.close()
        assert not [one for one in await follower.ended() if one.kind == "message"]
    check(received, publisher.published)


async def test_what_the_log_deleted(nursery: trio.Nursery, node: list[str]) -> None:
    """Records that were deleted meanwhile are told as lost, and the others come."""
    publisher = Publisher()
    instance = Instance(publisher.log)
    address = await nursery.start(instance.run)
    async with follow(node, f"ws://{address}/ws", ALL) as follower:
        await follower.notice("subscription_ack")
        await instance.cancel()
        await follower.notice("disconnected")
        last = [publisher.log.append("odin.trades", b"BTC", b"{}") for _ in range(9)][-1]
        publisher.log.delete_before("odin.trades", last.partition, last.offset - 1)
        await nursery.start(Instance(publisher.log, address.port).run)
        while (ack := await follower.said()).item["type"] != "resume_ack":
            assert ack.item["type"] == "disconnected"
        messages = await follower.messages(2)
    assert ack.item["recovered"] is False
    assert ack.item["lost"] == {"odin.trades": {str(last.partition): [0, last.offset - 2]}}
    assert [one.item["pos"] for one in messages] == [
        f"{last.partition}-{offset}" for offset in (last.offset - 1, last.offset)
    ]


async def test_a_server_that_asks_for_tokens(node: list[str], nursery: trio.Nursery) -> None:
    """It goes on with a new one at once where the first is about to end, and gets all."""
    publisher = Publisher()
    instance = Instance(publisher.log, ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
    address = await nursery.start(instance.run)
    tokens = [issuer("HS256").token(seconds) for seconds in (20, 3600)]
    trades = {"channels": ["*.trade"]}
    async with follow(node, f"ws://{address}/ws", trades, random=0, tokens=tokens) as follower:
        await follower.notice("subscription_ack")
        await follower.notice("auth")
        await follower.notice("auth_ack")
        publisher.publish(6)
        await follower.messages(3)
    await instance.cancel()
