"""Recreated and truncated topics, interrupted snapshots, and repeated commands."""

from __future__ import annotations

import trio

from odin_ws_client import Disconnected, Resumed, Subscribed, Subscription
from tests.client_python.fake import START, FakeServer, take, take_offsets

OLD, NEW = {"odin.trades": "a" * 32}, {"odin.trades": "b" * 32}


async def test_resume_sends_the_topic_ids_of_its_positions(server: FakeServer) -> None:
    """They came with acks or positions notices, or were kept by the user."""
    async with server.follow(positions=START, ids=OLD) as client:
        attempt = await server.attempt()
        assert (await attempt.accept())["data"]["ids"] == OLD
        await take(client, Resumed)
        await attempt.send_item(type="positions", positions={}, ids=OLD | {"odin.balances": "c"})
        await attempt.message(1, "0-9")
        assert await take_offsets(client, 1) == [9]
        assert client.ids == OLD | {"odin.balances": "c"}
        await attempt.cut()
        assert (await (await server.attempt()).accept())["data"]["ids"] == OLD


async def test_ack_with_another_id_replaces_all_positions_of_the_topic(
    server: FakeServer,
) -> None:
    """Also of partitions that the new topic does not have."""
    async with server.follow(positions={"odin.trades": {0: 500, 1: 500}}, ids=OLD) as client:
        attempt = await server.attempt()
        await attempt.accept(
            {"odin.trades": {"0": -1}},
            recovered=False,
            lost={"odin.trades": {"0": [0, -1], "1": [0, -1]}},
            reason="recreated",
            ids=NEW,
        )
        await attempt.message(1, "0-0", replay=True)
        resumed = await take(client, Resumed)
        assert (resumed.reason, resumed.ids) == ("recreated", NEW)
        assert await take_offsets(client, 1) == [0]
        assert client.positions["odin.trades"][0] == 0
        assert client.ids == NEW


async def test_records_of_a_topic_recreated_while_connected_are_no_duplicates(
    server: FakeServer,
) -> None:
    """Its messages from offset 0 on are delivered; positions of other topics stay."""
    async with server.follow(positions=START, ids=OLD) as client:
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.send_item(
            type="feed",
            status="lost",
            reason="recreated",
            lost={"odin.trades": {"0": [0, -1]}, "odin.social": {"0": [0, -1]}},
            positions={"odin.trades": {"0": -1}, "odin.social": {"0": -1}},
            ids=NEW | {"odin.social": "d"},
        )
        await attempt.message(1, "0-0")
        await take(client, Resumed)
        lost = await take(client, Resumed)
        assert (lost.lost, lost.ids) == ({"odin.trades": {0: (0, -1)}}, NEW)
        assert client.positions == {"odin.trades": {0: -1}}
        assert await take_offsets(client, 1) == [0]


async def test_truncation_moves_a_position_back_only(server: FakeServer) -> None:
    """A client that is still before the truncation needs the records before it."""
    async with server.follow(positions={"odin.trades": {0: 50, 1: 50}}) as client:
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.send_item(
            type="feed",
            status="lost",
            reason="truncated",
            lost={"odin.trades": {"0": [41, 50], "1": [81, 90]}},
            positions={"odin.trades": {"0": 40, "1": 80}},
        )
        await attempt.message(1, "0-41")
        await take(client, Resumed)
        assert (await take(client, Resumed)).positions == {"odin.trades": {0: 40, 1: 50}}
        assert await take_offsets(client, 1) == [41]


async def test_interrupted_snapshot_is_requested_again(server: FakeServer) -> None:
    """Until as many replayed messages have come as the ack said."""
    async with server.follow(Subscription(channels=["*.trade"], snapshot=True)) as client:
        attempt = await server.attempt()
        await attempt.accept(START, replayed=2)
        await attempt.message(1, "0-2", replay=True)
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [2]
        await attempt.cut()
        attempt = await server.attempt()
        assert (await attempt.accept(replayed=2))["data"]["snapshot"] is True
        await attempt.message(1, "0-2", replay=True)
        await attempt.message(2, "1-0", replay=True)
        await take(client, Disconnected)
        await take(client, Resumed)
        assert await take_offsets(client, 2) == [2, 0]
        await attempt.cut()
        assert "snapshot" not in (await (await server.attempt()).accept())["data"]
        assert client.duplicates == 0


async def test_rejected_resume_is_sent_again_after_retry_ms(server: FakeServer) -> None:
    """On the same connection."""
    async with server.follow(positions=START) as client:
        attempt = await server.attempt()
        await attempt.command()
        fields = {"code": "NOT_AVAILABLE", "message": "not now", "retry": True, "retry_ms": 7000}
        await attempt.send_item(type="error", id=1, **fields)
        began = trio.current_time()
        await attempt.accept()
        assert trio.current_time() - began == 7
        assert (await take(client, Resumed)).recovered


async def test_positions_of_replay_complete_are_adopted(server: FakeServer) -> None:
    """They are the client's from then on."""
    async with server.follow(positions=START) as client:
        attempt = await server.attempt()
        await attempt.accept()
        await take(client, Resumed)
        complete = {"type": "replay_complete", "id": 1, "count": 0}
        await attempt.send_item(**complete, positions={"odin.trades": {"0": 77}})
        await attempt.message(1, "0-78")
        assert await take_offsets(client, 1) == [78]
        await attempt.cut()
        command = await (await server.attempt()).command()
        assert command["data"]["positions"]["odin.trades"]["0"] == 78
