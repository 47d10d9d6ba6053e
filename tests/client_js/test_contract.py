"""The commands that the JavaScript client sends, and its reaction to responses and messages."""

from __future__ import annotations

from typing import Final

import pytest

from tests.client_js.beginning import begun
from tests.client_js.fake import START, TRADES, FakeServer

# The frame format that every command of the client requests.
BATCH: Final = {"frames": "batch"}

# ---- positions


async def test_first_command_has_every_field_of_the_subscription(server: FakeServer) -> None:
    """The first command has every field of the subscription, and requests positions."""
    wanted = {"bundles": ["TRADING"], "tokens": ["BTC"], "delivery": "latest", "since_ms": 17}
    async with server.follow(wanted) as follower:
        command = await (await server.visit()).accept(START)
        assert command == {
            "type": "subscribe",
            "id": 1,
            "data": wanted | BATCH | {"positions": True},
        }
        assert (await follower.notice("subscription_ack")).positions == START


async def test_message_is_delivered_with_all_fields(server: FakeServer) -> None:
    """A message has all its fields, and has moved the position of its category's topic."""
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.message(1, "1-17", "a.b.balances")
        await visit.message(2, "1-3")
        first, second = await follower.message(), await follower.message()
    assert first.item == {
        "type": "message",
        "seq": 1,
        "ts": 1,
        "channel": "a.b.balances",
        "pos": "1-17",
        "data": {},
    }
    assert first.positions == START | {"odin.balances": {"1": 17}}
    assert second.positions == {"odin.trades": {"0": 4, "1": 3}, "odin.balances": {"1": 17}}


async def test_messages_of_a_batch_are_delivered_separately(server: FakeServer) -> None:
    """Each has its number; only the first has the number of skipped messages before it."""
    bodies = [{"channel": "BTC.trade", "pos": f"1-{n}", "ts": n, "data": {"n": n}} for n in (5, 6)]
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.send_item("batch", seq=3, skipped=2, messages=bodies)
        await visit.send_item("batch", seq=5, replay=True, messages=bodies[1:])
        await visit.message(6, "1-7")
        first, second, third = [await follower.message() for _ in range(3)]
    assert first.item == {"type": "message", "seq": 3, "skipped": 2, **bodies[0]}
    assert first.positions == {"odin.trades": {"0": 4, "1": 5}}
    assert second.item == {"type": "message", "seq": 4, **bodies[1]}
    assert third.item["seq"] == 6
    assert third.duplicates == 1


async def test_batch_after_a_gap_is_not_delivered(server: FakeServer) -> None:
    """It comes again on the next connection, because positions stay before the gap."""
    body = {"channel": "BTC.trade", "pos": "1-5", "ts": 5, "data": {}}
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.send_item("batch", seq=2, messages=[body, body])
        command = await (await server.visit()).command()
    assert command["data"]["positions"] == START


async def test_lost_connection_is_resumed(server: FakeServer) -> None:
    """The resume has the client's positions, and no longer `since_ms` or `snapshot`."""
    wanted = {"channels": ["*.trade"], "delivery": "all", "snapshot": True}
    async with server.follow(wanted) as follower:
        visit = await begun(server, follower, positions=START, replayed=0)
        await visit.message(1, "1-0")
        await follower.message()
        await visit.cut()
        command = await (await server.visit()).command()
    assert command == {
        "type": "resume",
        "id": 1,
        "data": {
            "channels": ["*.trade"],
            "delivery": "all",
            "frames": "batch",
            "positions": {"odin.trades": {"0": 4, "1": 0}},
        },
    }


async def test_stored_positions_are_resumed(server: FakeServer) -> None:
    """With positions of an earlier feed the first command is a resume."""
    async with server.follow(positions=START):
        command = await (await server.visit()).command()
    assert command == {"type": "resume", "id": 1, "data": TRADES | BATCH | {"positions": START}}


async def test_positions_of_resume_ack_are_merged(server: FakeServer) -> None:
    """The positions of a resume_ack are of other partitions, and are added to the client's."""
    async with server.follow(positions=START) as follower:
        await (await server.visit()).accept({"odin.trades": {"2": 9}})
        ack = await follower.notice("resume_ack")
    assert ack.positions == {"odin.trades": {"0": 4, "1": -1, "2": 9}}


# ---- gaps and duplicates


@pytest.mark.parametrize(("reason", "span"), [("expired", [5, 90]), ("unknown_position", [0, 2])])
async def test_lost_range_is_reported_and_skipped(
    server: FakeServer, reason: str, span: list[int]
) -> None:
    """A loss is reported, and the position is at its end, even if that is further back."""
    async with server.follow(positions=START) as follower:
        visit = await server.visit()
        await visit.accept(lost={"odin.trades": {"0": span}}, reason=reason)
        ack = await follower.notice("resume_ack")
        await visit.message(1, f"0-{span[1] + 1}")
        message = await follower.message()
    assert (ack.item["recovered"], ack.item["reason"]) == (False, reason)
    assert ack.item["lost"] == {"odin.trades": {"0": span}}
    assert ack.positions == {"odin.trades": {"0": span[1], "1": -1}}
    assert message.positions == {"odin.trades": {"0": span[1] + 1, "1": -1}}


async def test_replay_incomplete_moves_position_to_end_of_range(server: FakeServer) -> None:
    """The end of replay_incomplete's range is a position, unless later messages have come."""
    async with server.follow(positions=START) as follower:
        visit = await begun(server, follower)
        await visit.message(1, "0-30", replay=True)
        await follower.message()
        lost = {"odin.trades": {"0": [5, 20], "1": [0, 7]}}
        await visit.send_item("replay_incomplete", count=1, lost=lost, reason="expired")
        reported = await follower.notice("replay_incomplete")
    assert reported.item["lost"] == lost
    assert reported.positions == {"odin.trades": {"0": 30, "1": 7}}


async def test_feed_notices_are_delivered(server: FakeServer) -> None:
    """They come before and after the ack; an expired range does not move positions."""
    lost = {"odin.trades": {"0": [5, 90]}}
    async with server.follow(positions=START) as follower:
        visit = await server.visit()
        await visit.send_item("feed", status="stalled", since=17)
        assert (await follower.notice("feed")).item["since"] == 17
        await visit.accept()
        await follower.notice("resume_ack")
        await visit.send_item("feed", status="lost", lost=lost, reason="expired")
        reported = await follower.notice("feed")
    assert reported.item["lost"] == lost
    assert reported.positions == START


async def test_records_of_a_recreated_topic_are_no_duplicates(server: FakeServer) -> None:
    """A followed topic begins at offset 0 again, and its records are delivered."""
    lost = {"odin.trades": {"0": [0, -1]}, "odin.social": {"0": [0, -1]}}
    anew = {topic: {"0": -1} for topic in lost}
    notice = {"status": "lost", "lost": lost, "reason": "recreated", "positions": anew}
    async with server.follow(positions=START, ids={"odin.trades": "a"}) as follower:
        visit = await server.visit()
        command = await visit.accept(ids={"odin.trades": "a"})
        assert command["data"]["ids"] == {"odin.trades": "a"}
        await follower.notice("resume_ack")
        await visit.send_item("feed", **notice, ids={"odin.trades": "b", "odin.social": "c"})
        assert (await follower.notice("feed")).positions == {"odin.trades": {"0": -1}}
        await visit.message(1, "0-0")
        assert (await follower.message()).duplicates == 0


async def test_gap_in_numbers_is_resumed(server: FakeServer) -> None:
    """The message after a gap is not delivered: a resume brings the missing messages."""
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.message(1, "0-5")
        await visit.message(3, "0-7")
        await follower.message()
        left = await follower.notice("disconnected")
        assert left.item["reason"] == "gap before message 3"
        await visit.closed()
        command = await (await server.visit()).command()
    assert command["data"]["positions"] == {"odin.trades": {"0": 5, "1": -1}}


async def test_skipped_numbers_are_no_gap(server: FakeServer) -> None:
    """Only the numbers that `skipped` counts are not missing."""
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.message(4, "0-9", skipped=3)
        await visit.message(5, "0-10")
        await visit.message(8, "0-14", skipped=1)
        assert [(await follower.message()).item["seq"] for _ in range(2)] == [4, 5]
        await follower.notice("disconnected")


async def test_duplicates_are_counted_and_not_delivered(server: FakeServer) -> None:
    """A message at or before the position is a duplicate."""
    async with server.follow(positions=START) as follower:
        visit = await begun(server, follower)
        await visit.message(1, "0-4", replay=True)
        await visit.message(2, "0-5", replay=True)
        await visit.message(3, "0-5")
        await visit.message(4, "1-0")
        messages = [await follower.message() for _ in range(2)]
    assert [(one.item["pos"], one.duplicates) for one in messages] == [("0-5", 1), ("1-0", 2)]
    assert messages[-1].positions == {"odin.trades": {"0": 5, "1": 0}}


async def test_snapshot_message_is_no_duplicate(server: FakeServer) -> None:
    """Last messages from before the position are delivered once, and do not move it back."""
    async with server.follow(TRADES | {"snapshot": True}) as follower:
        visit = await begun(server, follower, positions=START, replayed=1)
        await visit.message(1, "0-2", replay=True)
        assert (await follower.message()).positions == START
        await visit.message(2, "0-2")
        await visit.cut()
        await follower.notice("disconnected")
        visit = await begun(server, follower)
        await visit.message(1, "0-2", replay=True)
        await visit.message(2, "0-5")
        assert (await follower.message()).duplicates == 2
