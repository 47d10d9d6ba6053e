"""What the JavaScript client says to a server, and what it makes of the answers."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.client_js.beginning import begun
from tests.client_js.fake import TRADES, FakeServer
from tests.docs.closes import ABNORMAL, CLOSES, Close

START = {"odin.trades": {"0": 4, "1": -1}}

# Milliseconds: long enough to be told from nothing, short enough to be waited for.
AFTER_MS = 300

# The server has to answer within it, also on a busy machine.
SILENCE_MS = 1000

# More than any test may take.
NEVER_MS = 600_000


# What every command of the client asks for.
BATCH: Final = {"frames": "batch"}

# ---- where it is


async def test_it_subscribes_with_what_was_asked_for(server: FakeServer) -> None:
    """The first command has every field of the subscription, and asks for positions."""
    wanted = {"bundles": ["TRADING"], "tokens": ["BTC"], "delivery": "latest", "since_ms": 17}
    async with server.follow(wanted) as follower:
        command = await (await server.visit()).accept(START)
        assert command == {"type": "subscribe", "data": wanted | BATCH | {"positions": True}}
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
        await visit.say("batch", seq=3, skipped=2, messages=bodies)
        await visit.say("batch", seq=5, replay=True, messages=bodies[1:])
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
        await visit.say("batch", seq=2, messages=[body, body])
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
    assert command == {"type": "resume", "data": TRADES | BATCH | {"positions": START}}


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
        await visit.say("replay_incomplete", count=1, lost=lost, reason="expired")
        told = await follower.notice("replay_incomplete")
    assert told.item["lost"] == lost
    assert told.positions == {"odin.trades": {"0": 30, "1": 7}}


async def test_notices_of_the_feed_are_handed_on(server: FakeServer) -> None:
    """They come before and after the answer; where records expired, a replay may be before them."""
    lost = {"odin.trades": {"0": [5, 90]}}
    async with server.follow(positions=START) as follower:
        visit = await server.visit()
        await visit.say("feed", status="stalled", since=17)
        assert (await follower.notice("feed")).item["since"] == 17
        await visit.accept()
        await follower.notice("resume_ack")
        await visit.say("feed", status="lost", lost=lost, reason="expired")
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
        await visit.say("feed", **said, ids={"odin.trades": "b", "odin.social": "c"})
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


# ---- when it comes back


async def test_it_comes_back_when_it_is_told_to(server: FakeServer) -> None:
    """After a `reconnect` notice it waits as long as that says, whatever the back-off is."""
    async with server.follow() as follower:
        visit = await begun(server, follower, positions=START)
        await visit.say("reconnect", data={"after_ms": AFTER_MS, "reason": "draining"})
        await follower.notice("reconnect")
        closed_at = trio.current_time()
        await visit.close(1012)
        left = await follower.notice("disconnected")
        visit = await server.visit()
        assert trio.current_time() - closed_at >= AFTER_MS / 1000
        assert (await visit.command())["type"] == "resume"
    assert left.item == {
        "type": "disconnected",
        "code": 1012,
        "reason": "because",
        "retry_ms": AFTER_MS,
    }


async def test_advice_holds_once(server: FakeServer) -> None:
    """Advice is about the connection that it was given on."""
    async with server.follow(random=1) as follower:
        visit = await begun(server, follower, positions=START)
        await visit.say("reconnect", data={"after_ms": 7, "reason": "draining"})
        await follower.notice("reconnect")
        await visit.close(1012)
        assert (await follower.notice("disconnected")).item["retry_ms"] == 7
        await (await server.visit()).cut()
        assert (await follower.notice("disconnected")).item["retry_ms"] == 2


@pytest.mark.parametrize("random", [1, 0.5])
async def test_back_off(server: FakeServer, random: float) -> None:
    """The wait is a random part of a ceiling that doubles up to the longest wait."""
    await server.aclose()
    async with server.follow(random=random, backoff=[2, 10]) as follower:
        left = [(await follower.notice("disconnected")).item for _ in range(5)]
    assert [one["retry_ms"] for one in left] == [random * maximum for maximum in (2, 4, 8, 10, 10)]
    assert {(one["code"], one["reason"]) for one in left} == {(1006, "the connection failed")}


async def test_neither_message_nor_pong_resets_the_back_off(server: FakeServer) -> None:
    """A server that acks, sends one message and closes is not asked ever more often."""
    async with server.follow(random=1, backoff=[2, NEVER_MS]) as follower:
        waits = []
        for number, code in enumerate((1008, 1008, 1011, 1012, 4408)):
            visit = await begun(server, follower, positions=START)
            await visit.message(1, f"2-{number}")
            await follower.message()
            await visit.say("pong", ts=1)
            await visit.close(code)
            waits.append((await follower.notice("disconnected")).item["retry_ms"])
    assert waits == [2, 4, 8, 16, 32]


async def test_advice_that_comes_again_and_again_is_the_least_of_the_back_off(
    server: FakeServer,
) -> None:
    """A server that always says 1 ms is not asked every millisecond."""
    async with server.follow(random=1, backoff=[2, NEVER_MS]) as follower:
        waits = []
        for _ in range(4):
            visit = await begun(server, follower)
            await visit.say("reconnect", data={"after_ms": 1, "reason": "draining"})
            await follower.notice("reconnect")
            await visit.close(1012)
            waits.append((await follower.notice("disconnected")).item["retry_ms"])
    assert waits == [1, 4, 8, 16]


async def test_it_asks_again_where_the_log_does_not_answer(server: FakeServer) -> None:
    """A resume that may succeed later is tried again, with back-off and from the same place."""
    async with server.follow(random=1, backoff=[2, 100], positions=START) as follower:
        for wait in (2, 4):
            visit = await server.visit()
            await visit.command()
            await visit.say("error", code="NOT_AVAILABLE", message="too many ask", retry=True)
            left = await follower.notice("disconnected")
            assert left.item["reason"] == "NOT_AVAILABLE: too many ask"
            assert left.item["retry_ms"] == wait
        command = await (await server.visit()).accept()
        assert command["data"]["positions"] == START
        await follower.notice("resume_ack")


# ---- when it does not


@pytest.mark.parametrize("row", CLOSES, ids=lambda row: row.label)
async def test_close_does_what_its_row_says(server: FakeServer, row: Close) -> None:
    """Each row of docs/protocol.md's table, also with a token that is a string."""
    async with server.follow(random=1, backoff=[2, 100]) as follower:
        visit = await begun(server, follower)
        if row.advised:
            await visit.say("reconnect", data={"after_ms": 7, "reason": row.label})
            await follower.notice("reconnect")
        if row.code == ABNORMAL:
            await visit.cut()
        else:
            await visit.close(row.code, row.reason)
        left = (await follower.notice("disconnected")).item
        assert left["code"] == row.code
        assert left["retry_ms"] == (None if row.final else 7 if row.advised else 2)
        if row.final:
            assert await follower.ended() == []
        else:
            await server.visit()


@pytest.mark.parametrize("row", [row for row in CLOSES if row.renewable], ids=lambda row: row.label)
async def test_close_about_a_token_is_passing_where_there_is_another_one(
    server: FakeServer, row: Close
) -> None:
    """It gets a new one, and comes back with back-off."""
    async with server.follow(random=1, backoff=[2, 100], tokens=["a", "b"]) as follower:
        await (await begun(server, follower)).close(row.code, row.reason)
        assert (await follower.notice("disconnected")).item["retry_ms"] == 2
        assert "bearer.b" in (await server.visit()).offered


@pytest.mark.parametrize("code", [1001, 1013, 1014, 3000, 4999])
async def test_close_that_has_no_row_is_passing(server: FakeServer, code: int) -> None:
    """What proxies and newer servers say."""
    async with server.follow() as follower:
        await (await begun(server, follower)).close(code)
        assert (await follower.notice("disconnected")).item["code"] == code
        await server.visit()


async def test_a_rejected_command(server: FakeServer) -> None:
    """What the server will never do is not asked for again."""
    async with server.follow() as follower:
        visit = await server.visit()
        await visit.command()
        await visit.say("error", code="INVALID_MESSAGE", message="no such field", retry=False)
        left = await follower.notice("disconnected")
        assert left.item["reason"] == "INVALID_MESSAGE: no such field"
        assert left.item["retry_ms"] is None
        assert await follower.ended() == []


async def test_every_name_rejected(server: FakeServer) -> None:
    """With nothing to follow it does not stay."""
    rejected = [{"name": "*.trade", "code": "INVALID_CHANNEL", "message": "no such category"}]
    async with server.follow() as follower:
        await (await server.visit()).accept(subscribed=[], rejected=rejected, categories={})
        left = await follower.notice("disconnected")
        assert left.item["reason"] == "INVALID_CHANNEL: no such category"
        assert await follower.ended() == []


async def test_an_error_later_on(server: FakeServer) -> None:
    """An error after the subscription took effect is handed on, and changes nothing."""
    async with server.follow() as follower:
        visit = await begun(server, follower)
        await visit.say("error", code="RATE_LIMIT_EXCEEDED", message="slower", retry=True)
        await follower.notice("error")
        await visit.message(1, "0-0")
        await follower.message()


async def test_close(server: FakeServer) -> None:
    """A feed that is closed closes its connection, calls nothing, and leaves nothing running."""
    async with server.follow() as follower:
        visit = await begun(server, follower)
        await follower.close()
        await visit.closed()
        assert await follower.ended() == []


async def test_close_while_it_waits(server: FakeServer) -> None:
    """A feed that is closed between two connections does not come back."""
    async with server.follow(random=1, backoff=[NEVER_MS, NEVER_MS]) as follower:
        await (await begun(server, follower)).cut()
        await follower.notice("disconnected")
        await follower.close()
        assert await follower.ended() == []
