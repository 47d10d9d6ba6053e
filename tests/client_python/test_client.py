"""What an application receives on one connection."""

from __future__ import annotations

import itertools
import json

import pytest
import trio
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked

from odin_ws_client import (
    FeedChange,
    Message,
    ProtocolViolated,
    RejectedName,
    Resumed,
    Subscribed,
    Subscription,
    SubscriptionRejected,
)
from tests.client_python.fake import (
    TRADES,
    FakeServer,
    ending,
    message_text,
    take,
    take_offsets,
)

START = {"odin.trades": {"0": 4, "1": -1}}


async def test_first_command_has_every_field_of_the_subscription(server: FakeServer) -> None:
    """The first command has every field of the subscription, and requests positions."""
    wanted = Subscription(
        channels=["BTC.trade"],
        topics=["odin.balances"],
        bundles=["TRADING"],
        tokens=["BTC"],
        delivery="latest",
        since_ms=17,
    )
    async with server.follow(wanted) as client:
        command = await (await server.attempt()).accept(START)
        assert command["type"] == "subscribe"
        assert command["data"] == {
            "channels": ["BTC.trade"],
            "topics": ["odin.balances"],
            "bundles": ["TRADING"],
            "tokens": ["BTC"],
            "delivery": "latest",
            "frames": "batch",
            "since_ms": 17,
            "positions": True,
        }
        await take(client, Subscribed)


async def test_ack_is_the_first_item(server: FakeServer) -> None:
    """It has the accepted names, the rejected names with reasons, and the positions."""
    rejected = [{"name": "x", "code": "INVALID_CHANNEL", "message": "no"}]
    async with server.follow() as client:
        await (await server.attempt()).accept(START, rejected=rejected)
        assert await take(client, Subscribed) == Subscribed(
            ("*.trade",),
            (RejectedName("x", "INVALID_CHANNEL", "no"),),
            {"odin.trades": {0: 4, 1: -1}},
        )
        assert client.connections == 1


async def test_message_has_all_fields(server: FakeServer) -> None:
    """Every field, the topic of its category, and the text as received."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.message(1, "3-17", "a.b.balances")
        await attempt.message(5, "3-18", "a.b.balances", skipped=3)
        await attempt.message(6, "4-9", "a.b.balances", replay=True)
        await take(client, Subscribed)
        first, second, third = [await take(client, Message) for _ in range(3)]
    assert (first.channel, first.topic) == ("a.b.balances", "odin.balances")
    assert (first.partition, first.offset) == (3, 17)
    assert (first.seq, first.timestamp, first.data) == (1, 1001, {"n": 1})
    assert (first.replay, first.skipped) == (False, 0)
    assert first.text == message_text(1, "3-17", "a.b.balances")
    assert (second.seq, second.skipped, client.skipped) == (5, 3, 3)
    assert (third.replay, third.partition) == (True, 4)
    assert client.gaps == client.duplicates == 0


async def test_positions_move_when_a_message_is_iterated(server: FakeServer) -> None:
    """Messages that were received but not yet iterated do not move positions."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept(START)
        for seq in (1, 2, 3):
            await attempt.message(seq, f"0-{4 + seq}")
        assert client.positions == {}
        await take(client, Subscribed)
        await wait_all_tasks_blocked()
        assert client.positions == {"odin.trades": {0: 4, 1: -1}}
        for offset in (5, 6, 7):
            assert await take_offsets(client, 1) == [offset]
            assert client.positions["odin.trades"] == {0: offset, 1: -1}


async def test_positions_from_json_are_resumed(server: FakeServer) -> None:
    """Positions stored as JSON, with partitions as strings, are resumed at once."""
    async with server.follow() as client:
        await (await server.attempt()).accept(START)
        await take(client, Subscribed)
        kept = json.dumps(client.positions)
    async with server.follow(positions=json.loads(kept)) as client:
        command = await (await server.attempt()).accept()
        assert command["type"] == "resume"
        assert command["data"] == {
            "channels": ["*.trade"],
            "frames": "batch",
            "positions": START,
        }
        resumed = await take(client, Resumed)
        assert resumed.recovered
        assert resumed.seconds_away is None
        assert json.dumps(client.positions) == kept


async def test_checkpoint_resumes_with_positions_and_ids(server: FakeServer) -> None:
    """It survives JSON, and its parts are options of the next client."""
    async with server.follow() as client:
        await (await server.attempt()).accept(START, ids={"odin.trades": "id1"})
        await take(client, Subscribed)
        kept = json.dumps(client.checkpoint())
    async with server.follow(**json.loads(kept)):
        command = await (await server.attempt()).accept()
        assert command["type"] == "resume"
        assert command["data"]["positions"] == START
        assert command["data"]["ids"] == {"odin.trades": "id1"}


async def test_messages_yields_only_messages(server: FakeServer) -> None:
    """`messages()` skips all other items."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.message(1, "0-1")
        await attempt.send_item(type="feed", status="stalled", since=5)
        await attempt.message(2, "0-2")
        with trio.fail_after(1):
            async for message in client.messages():
                if message.offset == 2:
                    break
    assert client.positions == {"odin.trades": {0: 2}}


async def test_feed_changes_are_in_order_with_messages(server: FakeServer) -> None:
    """A feed change comes between the messages around it."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.message(1, "0-1")
        await attempt.send_item(type="feed", status="stalled", since=5)
        await attempt.send_item(type="feed", status="live", since=9)
        await attempt.message(2, "0-2")
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [1]
        assert await take(client, FeedChange) == FeedChange("stalled", 5)
        assert await take(client, FeedChange) == FeedChange("live", 9)
        assert await take_offsets(client, 1) == [2]


async def test_unknown_types_and_fields_are_ignored(server: FakeServer) -> None:
    """A newer server may send more."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.send_item(type="welcome")
        await attempt.accept()
        await attempt.send_item(type="pong", ts=1)
        await attempt.send_item(type="replay_complete", id=1, count=0)
        await attempt.message(1, "0-1")
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [1]


async def test_duplicates_are_counted_and_not_yielded(server: FakeServer) -> None:
    """A record that came before is counted and not yielded again."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept(START)
        for seq, pos in enumerate(("0-5", "0-5", "0-4", "1-0", "0-6", "1-0"), 1):
            await attempt.message(seq, pos)
        await attempt.message(7, "0-6", replay=True)
        await take(client, Subscribed)
        assert await take_offsets(client, 3) == [5, 0, 6]
        await wait_all_tasks_blocked()
        assert client.duplicates == 4


async def test_snapshot_message_is_no_duplicate(server: FakeServer) -> None:
    """The last message of each channel is before the positions, and does not move them."""
    wanted = Subscription(channels=["*.trade"], snapshot=True)
    async with server.follow(wanted) as client:
        attempt = await server.attempt()
        command = await attempt.accept(START)
        assert command["data"]["snapshot"] is True
        await attempt.message(1, "0-2", replay=True)
        await attempt.message(2, "0-4", "ETH.trade", replay=True)
        await take(client, Subscribed)
        assert await take_offsets(client, 2) == [2, 4]
        assert client.positions["odin.trades"][0] == 4
        await attempt.message(3, "0-3")
        await attempt.message(4, "0-5")
        assert await take_offsets(client, 1) == [5]
        assert client.duplicates == 1


async def test_client_ends_if_all_names_are_rejected(server: FakeServer) -> None:
    """The error has the reason for each name."""
    rejected = [{"name": "*.trade", "code": "INVALID_CHANNEL", "message": "no such"}]
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept(subscribed=[], rejected=rejected)
        error = await ending(client)
        assert isinstance(error, SubscriptionRejected)
        assert error.rejected == (RejectedName("*.trade", "INVALID_CHANNEL", "no such"),)
        assert client.error is error
    assert len(server.times) == 1


async def test_permanently_rejected_command_ends_the_client(server: FakeServer) -> None:
    """A command that can never succeed ends the client."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.command()
        await attempt.send_item(
            type="error", id=1, code="INVALID_MESSAGE", message="bad", retry=False
        )
        error = await ending(client)
        assert str(error) == "bad (INVALID_MESSAGE)"
        assert (await attempt.closed())[0] == 1000


@pytest.mark.parametrize("code", ["NOT_AVAILABLE", "RATE_LIMIT_EXCEEDED"])
async def test_command_with_retry_is_repeated(server: FakeServer, code: str) -> None:
    """On the same connection, with growing waits, until the server executes it."""
    async with server.follow(positions=START) as client:
        attempt = await server.attempt()
        times = []
        for _ in range(4):
            command = await attempt.command()
            times.append(trio.current_time())
            assert command["data"]["positions"] == START
            # Commands over the rate are not read: their answers have no id.
            of = {"id": 1} if code == "NOT_AVAILABLE" else {}
            await attempt.send_item(type="error", **of, code=code, message="later", retry=True)
        await attempt.accept()
        await take(client, Resumed)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([0.2, 0.4, 0.8])
    assert len(server.times) == 1


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"no":"type"}',
        message_text(1, "0-1").replace('"0-1"', '"7"'),
        message_text(1, "0-1").replace('"0-1"', "7"),
        message_text(1, "0-1", "BTC.unknown"),
        message_text(1, "0-1").replace('"message"', '"price:update"'),
        '{"type":"reconnect","data":7}',
    ],
)
async def test_invalid_message_ends_the_client(server: FakeServer, text: str) -> None:
    """A message that cannot be parsed is not skipped silently: the error shows it."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.websocket.send_message(text)
        error = await ending(client)
        assert isinstance(error, ProtocolViolated)
        assert text[:20] in str(error)
        assert (await attempt.closed())[0] == 1002


async def test_end_of_the_block_closes_with_1000(server: FakeServer) -> None:
    """The server receives a normal close at the end of the block."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept()
        await take(client, Subscribed)
    assert await attempt.closed() == (1000, None)


async def test_cancelled_iteration_loses_no_message(server: FakeServer) -> None:
    """The message that arrives afterwards goes to the next caller."""
    async with server.follow() as client:
        attempt = await server.attempt()
        await attempt.accept()
        await take(client, Subscribed)
        with trio.move_on_after(3):
            await anext(client)
        await attempt.message(1, "0-1")
        await attempt.message(2, "0-2")
        assert await take_offsets(client, 2) == [1, 2]


async def test_slow_consumer_stops_reading_from_the_socket(
    server: FakeServer, nursery: trio.Nursery
) -> None:
    """Except for a bounded part, unread messages stay on the server's side."""
    server.pair = lockstep_stream_pair  # sending waits until all is read
    sent = 0

    async def publish() -> None:
        nonlocal sent
        attempt = await server.attempt()
        await attempt.accept()
        while sent < 200:
            await attempt.message(sent + 1, f"0-{sent}", padding="x" * 20_000)
            sent += 1

    nursery.start_soon(publish)
    async with server.follow() as client:
        await trio.sleep(300)  # nor does the client mistake its own slowness for a dead server
        assert sent < 100  # 16 reads of 64 KiB, and what asyncio's streams hold
        await take(client, Subscribed)
        assert await take_offsets(client, 200) == list(range(200))


def test_invalid_subscription_is_an_error() -> None:
    """No name, one string instead of a list, or two start positions."""
    with pytest.raises(ValueError, match="must have channels"):
        Subscription(tokens=["BTC"])
    with pytest.raises(TypeError, match=r"BTC\.trade"):
        Subscription(channels="BTC.trade")
    with pytest.raises(ValueError, match="snapshot"):
        Subscription(channels=["*.*"], snapshot=True, since_ms=1)
    assert Subscription(channels=["*.trade"]) == TRADES
