"""The JavaScript client with a real server: no record is missing or repeated."""

from __future__ import annotations

import pytest
import trio

from odin_ws.settings import Secret
from tests.client_js.follower import FollowerEvent, follow
from tests.client_js.instances import ALL, Instance, Publisher, check, memory_log, restart_twice
from tests.client_js.relay import cutting_relay
from tests.jwt_issuer import SECRET, issuer


async def test_cut_connections_lose_and_repeat_nothing(
    nursery: trio.Nursery, node: list[str]
) -> None:
    """However often and wherever connections are cut, every record comes once and in order."""
    log = memory_log()
    publisher = Publisher(log)
    instance = Instance(log)
    address = await nursery.start(instance.run)
    received: list[FollowerEvent] = []
    async with (
        cutting_relay(address, first=2000, more=1000) as relay,
        follow(node, f"ws://{relay}/ws", ALL) as follower,
    ):
        await follower.notice("subscription_ack")
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


@pytest.mark.parametrize("history_seconds", [0, 300])
async def test_records_published_without_a_server_are_replayed(
    nursery: trio.Nursery, node: list[str], history_seconds: float
) -> None:
    """The next server sends them from its history or from its log."""
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    async with follow(node, f"ws://{address}/ws", ALL) as follower:
        await follower.notice("subscription_ack")
        await restart_twice(nursery, address, instance, follower, history_seconds)
        await follower.close()
        assert not [one for one in await follower.ended() if one.kind == "message"]


async def test_deleted_records_are_reported_as_lost(nursery: trio.Nursery, node: list[str]) -> None:
    """Records that were deleted meanwhile are reported as lost, and the others are delivered."""
    log = memory_log()
    instance = Instance(log)
    address = await nursery.start(instance.run)
    async with follow(node, f"ws://{address}/ws", ALL) as follower:
        await follower.notice("subscription_ack")
        await instance.cancel()
        await follower.notice("disconnected")
        last = [log.append("odin.trades", b"BTC", b"{}") for _ in range(9)][-1]
        log.delete_before("odin.trades", last.partition, last.offset - 1)
        await nursery.start(Instance(log, address.port).run)
        while (ack := await follower.next_event()).item["type"] != "resume_ack":
            assert ack.item["type"] == "disconnected"
        messages = await follower.messages(2)
    assert ack.item["recovered"] is False
    assert ack.item["lost"] == {"odin.trades": {str(last.partition): [0, last.offset - 2]}}
    assert [message.item["pos"] for message in messages] == [
        f"{last.partition}-{offset}" for offset in (last.offset - 1, last.offset)
    ]


async def test_expiring_token_is_renewed_on_the_connection(
    node: list[str], nursery: trio.Nursery
) -> None:
    """A new token is sent at once before the first expires, and every record is delivered."""
    log = memory_log()
    publisher = Publisher(log)
    instance = Instance(log, ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
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
