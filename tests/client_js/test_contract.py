"""What the JavaScript client says to a server, and what it makes of the answers."""

from __future__ import annotations

from typing import Final

import pytest

from tests.client_js.beginning import begun
from tests.client_js.fake import START, TRADES, FakeServer

# What every command of the client asks for.
BATCH: Final = {"frames": "batch"}

# ---- where it is


async def test_it_subscribes_with_what_was_asked_for(server: FakeServer) -> None:
    """The first command has every field of the subscription, and asks for positions."""
    wanted = {"bundles": ["TRADING"], "tokens": ["BTC"], "delivery": "latest", "since_ms": 17}
    async with server.follow(wanted) as follower:
        command = await (await server.visit()).accept(START)
        assert command == {
            "type": "subscribe",
            "id": 1,
            "data": wanted | BATCH | {"positions": True},
        }
        assert (await follower.notice("subscription_ack")).positions == START


async def test_a_message_is_handed_on_as_it_came(server: FakeServer) -> None:
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


async def test_messages_of_a_batch_are_handed_on_one_by_one(server: FakeServer) -> None:
    """Each with its number; only the first follows numbers that were left out."""
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


async def test_a_batch_after_a_gap_is_not_taken(server: FakeServer) -> None:
    """It comes again on another connection, behind what has come."""
    body = {"channel": "BTC.trade", "pos": "1-5", "ts": 5, "data": {}}
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.send_item("batch", seq=2, messages=[body, body])
        command = await (await server.visit()).command()
    assert command["data"]["positions"] == START


async def test_after_a_break_it_resumes(server: FakeServer) -> None:
    """It asks for what comes after its positions, and not again for how it began."""
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


async def test_it_resumes_from_stored_positions(server: FakeServer) -> None:
    """With positions of an earlier feed the first command is a resume."""
    async with server.follow(positions=START):
        command = await (await server.visit()).command()
    assert command == {"type": "resume", "id": 1, "data": TRADES | BATCH | {"positions": START}}


async def test_partitions_it_did_not_know(server: FakeServer) -> None:
    """The positions of a resume_ack are those of other partitions: they join its own."""
    async with server.follow(positions=START) as follower:
        await (await server.visit()).accept({"odin.trades": {"2": 9}})
        ack = await follower.notice("resume_ack")
    assert ack.positions == {"odin.trades": {"0": 4, "1": -1, "2": 9}}


# ---- what does not come, or twice


@pytest.mark.parametrize(("reason", "span"), [("expired", [5, 90]), ("unknown_position", [0, 2])])
async def test_what_is_lost_is_passed_over(
    server: FakeServer, reason: str, span: list[int]
) -> None:
    """A loss is handed on, and the position is at its end, also where that is further back."""
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


async def test_a_loss_in_the_middle_of_a_replay(server: FakeServer) -> None:
    """The end of replay_incomplete's range is a position, unless later messages have come."""
    async with server.follow(positions=START) as follower:
        visit = await begun(server, follower)
        await visit.message(1, "0-30", replay=True)
        await follower.message()
        lost = {"odin.trades": {"0": [5, 20], "1": [0, 7]}}
        await visit.send_item("replay_incomplete", count=1, lost=lost, reason="expired")
        told = await follower.notice("replay_incomplete")
    assert told.item["lost"] == lost
    assert told.positions == {"odin.trades": {"0": 30, "1": 7}}


async def test_notices_of_the_feed_are_handed_on(server: FakeServer) -> None:
    """They come before and after the answer; where records expired, a replay may be before them."""
    lost = {"odin.trades": {"0": [5, 90]}}
    async with server.follow(positions=START) as follower:
        visit = await server.visit()
        await visit.send_item("feed", status="stalled", since=17)
        assert (await follower.notice("feed")).item["since"] == 17
        await visit.accept()
        await follower.notice("resume_ack")
        await visit.send_item("feed", status="lost", lost=lost, reason="expired")
        told = await follower.notice("feed")
    assert told.item["lost"] == lost
    assert told.positions == START


async def test_a_topic_that_was_made_anew(server: FakeServer) -> None:
    """Where a topic that is followed begins at 0 again, its records are no duplicates."""
    lost = {"odin.trades": {"0": [0, -1]}, "odin.social": {"0": [0, -1]}}
    anew = {topic: {"0": -1} for topic in lost}
    said = {"status": "lost", "lost": lost, "reason": "recreated", "positions": anew}
    async with server.follow(positions=START, ids={"odin.trades": "a"}) as follower:
        visit = await server.visit()
        command = await visit.accept(ids={"odin.trades": "a"})
        assert command["data"]["ids"] == {"odin.trades": "a"}
        await follower.notice("resume_ack")
        await visit.send_item("feed", **said, ids={"odin.trades": "b", "odin.social": "c"})
        assert (await follower.notice("feed")).positions == {"odin.trades": {"0": -1}}
        await visit.message(1, "0-0")
        assert (await follower.message()).duplicates == 0


async def test_a_gap(server: FakeServer) -> None:
    """What does not follow the message before is not taken: a resume brings what is missing."""
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


async def test_what_the_server_skips_is_no_gap(server: FakeServer) -> None:
    """The numbers that `skipped` speaks of are not missing, and no others."""
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.message(4, "0-9", skipped=3)
        await visit.message(5, "0-10")
        await visit.message(8, "0-14", skipped=1)
        assert [(await follower.message()).item["seq"] for _ in range(2)] == [4, 5]
        await follower.notice("disconnected")


async def test_duplicates(server: FakeServer) -> None:
    """What is not beyond the position is counted and not handed on."""
    async with server.follow(positions=START) as follower:
        visit = await begun(server, follower)
        await visit.message(1, "0-4", replay=True)
        await visit.message(2, "0-5", replay=True)
        await visit.message(3, "0-5")
        await visit.message(4, "1-0")
        said = [await follower.message() for _ in range(2)]
    assert [(one.item["pos"], one.duplicates) for one in said] == [("0-5", 1), ("1-0", 2)]
    assert said[-1].positions == {"odin.trades": {"0": 5, "1": 0}}


async def test_a_snapshot_is_no_duplicate(server: FakeServer) -> None:
    """The last messages from before the position are handed on once, and do not move it back."""
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
