"""The JavaScript client falls back to Server-Sent Events if WebSockets are rejected."""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any, Final

import pytest
import trio

from odin_ws.protocol.event_id import EventId, parse_event_id
from odin_ws.settings import Secret
from tests.client_js.follower import PACKAGE, Follower, FollowerEvent, follow
from tests.client_js.instances import ALL, Instance, Publisher, check, memory_log, restart_twice
from tests.client_js.upgrade_blocking_proxy import blocking_proxy
from tests.jwt_issuer import SECRET, issuer

# Node 20 sometimes loses a WebSocket that begins right behind a rejected one: docs/client-js.md.
BACKOFF: Final = (200, 300)
WITH: Final[dict[str, Any]] = {"backoff": BACKOFF, "fallback": True}


async def subscribed(follower: Follower, kind: str = "subscription_ack") -> list[FollowerEvent]:
    """Wait for the ack; returns the ends of connections before it."""
    ends = []
    while (event := await follower.next_event()).item["type"] != kind:
        assert event.item["type"] == "disconnected", event
        ends.append(event)
    return ends


async def test_client_falls_back_to_events_after_three_rejected_upgrades(
    nursery: trio.Nursery, node: list[str]
) -> None:
    """Later connections begin with a stream at once."""
    log = memory_log()
    publisher, instance = Publisher(log), Instance(log)
    async with (
        blocking_proxy(await nursery.start(instance.run)) as proxy,
        follow(node, f"ws://{proxy.address}/ws", ALL, **WITH) as follower,
    ):
        ends = await subscribed(follower)
        assert [end.item["code"] for end in ends] == [1006] * 3
        publisher.publish(30)
        received = await follower.messages(30)
        proxy.cut()
        publisher.publish(30)
        await subscribed(follower, "resume_ack")
        received += await follower.messages(30)
        check(received, publisher.published)
        assert (proxy.upgrades, proxy.streams) == (3, 2)
    await instance.cancel()


async def test_events_client_misses_nothing_when_servers_end(
    nursery: trio.Nursery, node: list[str]
) -> None:
    """Drained and killed servers: the client follows over events without a gap."""
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    async with blocking_proxy(address) as proxy:
        async with follow(node, f"ws://{proxy.address}/ws", ALL, **WITH) as follower:
            await subscribed(follower)
            await restart_twice(nursery, address, instance, follower)
        assert proxy.streams > 2


async def test_cut_streams_lose_and_repeat_nothing(nursery: trio.Nursery, node: list[str]) -> None:
    """Wherever streams are cut, every record comes once and in order."""
    log = memory_log()
    publisher, instance = Publisher(log), Instance(log)
    async with (
        blocking_proxy(await nursery.start(instance.run), cut_after=3000) as proxy,
        follow(node, f"ws://{proxy.address}/ws", ALL, **WITH) as follower,
    ):
        await subscribed(follower)
        received: list[FollowerEvent] = []
        resumed = 0
        while publisher.published < 400:
            publisher.publish(20)
            while len(received) < publisher.published:
                event = await follower.next_event()
                if event.kind == "message":
                    received.append(event)
                resumed += event.item["type"] == "resume_ack"
        check(received, publisher.published)
        assert resumed > 5
    await instance.cancel()


async def test_positions_are_kept_when_the_transport_changes(
    nursery: trio.Nursery, node: list[str]
) -> None:
    """From events to a WebSocket and back: each connection resumes after the one before."""
    log = memory_log()
    publisher, instance = Publisher(log), Instance(log)
    address = await nursery.start(instance.run)
    received: list[FollowerEvent] = []
    positions: dict[str, Any] = {}
    ids: dict[str, str] = {}
    async with blocking_proxy(address) as proxy:
        for refuses in True, False, True:
            proxy.refuses = refuses
            publisher.publish(20)
            url = f"ws://{proxy.address}/ws"
            options = {"positions": positions, "ids": ids} if positions else {"since_ms": 0}
            since = {"since_ms": options.pop("since_ms")} if "since_ms" in options else {}
            async with follow(node, url, {**ALL, **since}, **WITH, **options) as follower:
                event = await follower.next_event()
                while event.item["type"] == "disconnected":
                    event = await follower.next_event()
                ids = event.item["ids"]
                publisher.publish(20)
                received += await follower.messages(40)
                positions = received[-1].positions
    check(received, publisher.published)
    await instance.cancel()


@pytest.mark.parametrize("by", ["function", "string"])
async def test_stream_sends_token_in_authorization_header(
    nursery: trio.Nursery, node: list[str], by: str
) -> None:
    """An expired token is replaced by another one, if there is one."""
    log = memory_log()
    publisher = Publisher(log)
    instance = Instance(log, ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_jwt_leeway_seconds=0)
    tokens = [issuer("HS256").token(seconds) for seconds in (3, 3600)]
    given: dict[str, Any] = {"tokens": [tokens[0]] * 4 + [tokens[1]]}
    if by == "string":
        given = {"token": tokens[0]}
    trades = {"channels": ["*.trade"]}
    async with (
        blocking_proxy(await nursery.start(instance.run)) as proxy,
        follow(node, f"ws://{proxy.address}/ws", trades, **WITH, **given) as follower,
    ):
        await subscribed(follower)
        publisher.publish(3)
        await follower.messages(3)
        event = await follower.next_event()
        while event.item["type"] != "disconnected":
            event = await follower.next_event()
        assert event.item["code"] == 4401
        if by == "string":
            assert event.item["retry_ms"] is None
        else:
            publisher.publish(6)
            await subscribed(follower, "resume_ack")
            await follower.messages(3)
    await instance.cancel()


async def test_fallback_can_be_disabled(nursery: trio.Nursery, node: list[str]) -> None:
    """The client then only opens WebSockets."""
    instance = Instance(memory_log())
    async with blocking_proxy(await nursery.start(instance.run)) as proxy:
        url = f"ws://{proxy.address}/ws"
        async with follow(node, url, ALL, backoff=BACKOFF) as follower:
            for _ in range(6):
                await follower.notice("disconnected")
            assert proxy.streams == 0
    await instance.cancel()


async def test_transport_sse_opens_no_websocket(nursery: trio.Nursery, node: list[str]) -> None:
    """No WebSocket is tried, before and after a lost connection."""
    log = memory_log()
    publisher, instance = Publisher(log), Instance(log)
    async with (
        blocking_proxy(await nursery.start(instance.run)) as proxy,
        follow(node, f"ws://{proxy.address}/ws", ALL, transport="sse", **WITH) as follower,
    ):
        await follower.notice("subscription_ack")
        publisher.publish(30)
        received = await follower.messages(30)
        proxy.cut()
        publisher.publish(30)
        received += await follower.messages(30)
        check(received, publisher.published)
        assert (proxy.upgrades, proxy.streams) == (0, 2)
    await instance.cancel()


async def test_unavailable_server_does_not_cause_fallback(
    nursery: trio.Nursery, node: list[str]
) -> None:
    """Neither transport works then; afterwards a WebSocket is as likely, and both deliver all."""
    log = memory_log()
    publisher, instance = Publisher(log), Instance(log)
    address = await nursery.start(instance.run)
    async with follow(node, f"ws://{address}/ws", ALL, **WITH) as follower:
        await follower.notice("subscription_ack")
        await instance.cancel()
        for _ in range(8):
            await follower.notice("disconnected")
        publisher.publish(20)
        await nursery.start(Instance(log, address.port).run)
        await subscribed(follower, "resume_ack")
        check(await follower.messages(20), 20)


def random_cases(count: int) -> list[tuple[dict[str, dict[int, int]], bool]]:
    """Positions of some partitions of some topics, small and large."""
    chance = random.Random(17)  # noqa: S311 -- the same ones each time
    return [
        (
            {
                topic: {
                    partition: chance.randrange(-1, 2 ** chance.choice([1, 5, 6, 20, 32, 53]) - 1)
                    for partition in range(13)
                    if chance.random() < 0.7
                }
                for topic in ("odin.trades", "odin.social")
                if chance.random() < 0.8
            },
            chance.random() < 0.5,
        )
        for _ in range(count)
    ]


def test_server_reads_event_ids_written_by_the_client(node: list[str]) -> None:
    """The JavaScript encoder writes what the Python decoder reads."""
    cases = random_cases(200)
    ids = {"odin.trades": "0f3c" * 8}
    module = (PACKAGE / "src" / "event-id.js").as_uri()
    script = (
        f'import {{ eventId }} from "{module}";'
        "for (const [positions, inSnapshot] of JSON.parse(process.argv[1]))"
        f" console.log(eventId(positions, {json.dumps(ids)}, inSnapshot));"
    )
    command = [*node, "--input-type=module", "--eval", script, json.dumps(cases)]
    written = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    texts = written.stdout.split()
    assert len(texts) == len(cases)
    for text, (positions, in_snapshot) in zip(texts, cases, strict=True):
        known = {topic: topic_id for topic, topic_id in ids.items() if topic in positions}
        assert parse_event_id(text) == EventId(positions, known, in_snapshot=in_snapshot)
