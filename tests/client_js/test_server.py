"""The JavaScript client with a server: nothing is missing, and nothing comes twice."""

from __future__ import annotations

import pytest
import trio

from odin_ws.settings import Secret
from tests.client_js.following import FollowerEvent, follow
from tests.client_js.instances import ALL, Instance, Publisher, check, memory_log, restart_twice
from tests.client_js.relay import cutting_relay
from tests.jwt_issuer import SECRET, issuer


async def test_connections_that_are_cut(nursery: trio.Nursery, node: list[str]) -> None:
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
    instance = Instance(memory_log())
    address = await nursery.start(instance.run)
    async with follow(node, f"ws://{address}/ws", ALL) as follower:
        await follower.notice("subscription_ack")
        await restart_twice(nursery, address, instance, follower, history_seconds)
        await follower.close()
        assert not [one for one in await follower.ended() if one.kind == "message"]


async def test_what_the_log_deleted(nursery: trio.Nursery, node: list[str]) -> None:
    """Records that were deleted meanwhile are told as lost, and the others come."""
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
        while (ack := await follower.said()).item["type"] != "resume_ack":
            assert ack.item["type"] == "disconnected"
        messages = await follower.messages(2)
    assert ack.item["recovered"] is False
    assert ack.item["lost"] == {"odin.trades": {str(last.partition): [0, last.offset - 2]}}
    assert [message.item["pos"] for message in messages] == [
        f"{last.partition}-{offset}" for offset in (last.offset - 1, last.offset)
    ]


async def test_a_server_that_asks_for_tokens(node: list[str], nursery: trio.Nursery) -> None:
    """It goes on with a new one at once where the first is about to end, and gets all."""
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
