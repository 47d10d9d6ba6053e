"""When a client reconnects, the positions that it resumes from, and when it ends."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws_client import (
    ClosedByServer,
    ConnectFailed,
    Disconnected,
    HandshakeRejected,
    Message,
    Resumed,
    Subscribed,
)
from tests.client_python.fake import (
    START,
    FakeServer,
    begin,
    ending,
    take,
    take_offsets,
)


async def test_lost_connection_is_resumed(server: FakeServer) -> None:
    """With its names and the positions of received messages, including those not yet iterated."""
    async with server.follow() as client:
        attempt = await begin(server)
        await attempt.message(1, "0-5")
        await attempt.message(2, "1-0")
        await wait_all_tasks_blocked()
        await attempt.cut()
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [5]
        attempt = await server.attempt()
        command = await attempt.accept(replayed=1)
        assert command["type"] == "resume"
        assert command["data"] == {
            "channels": ["*.trade"],
            "frames": "batch",
            "positions": {"odin.trades": {"0": 5, "1": 0}},
        }
        assert client.positions["odin.trades"] == {0: 5, 1: -1}
        await attempt.message(1, "0-6", replay=True)
        assert await take_offsets(client, 1) == [0]
        lost = await take(client, Disconnected)
        assert (lost.code, lost.retry_in) == (1006, 0.2)
        resumed = await take(client, Resumed)
        assert (resumed.recovered, resumed.replayed, resumed.lost) == (True, 1, {})
        assert resumed.seconds_away == pytest.approx(0.2)
        assert (await take(client, Message)).replay
        assert client.connections == 2


async def test_connection_lost_before_the_ack_subscribes_again(server: FakeServer) -> None:
    """There are no positions to resume from."""
    async with server.follow() as client:
        await (await server.attempt()).cut()
        await take(client, Disconnected)
        assert (await (await server.attempt()).accept(START))["type"] == "subscribe"
        await take(client, Subscribed)


async def test_lost_range_is_reported_and_skipped(server: FakeServer) -> None:
    """The loss has its range and reason; the next resume begins after it."""
    async with server.follow() as client:
        await (await begin(server)).cut()
        attempt = await server.attempt()
        await attempt.accept(
            {"odin.trades": {"2": 7}},
            recovered=False,
            lost={"odin.trades": {"0": [5, 20]}},
            reason="expired",
            replayed=None,
        )
        await attempt.message(1, "0-21", replay=True)
        await take(client, Subscribed)
        await take(client, Disconnected)
        resumed = await take(client, Resumed)
        assert not resumed.recovered
        assert resumed.replayed is None
        assert resumed.lost == {"odin.trades": {0: (5, 20)}}
        assert resumed.reason == "expired"
        assert client.positions["odin.trades"] == {0: 20, 1: -1, 2: 7}
        assert await take_offsets(client, 1) == [21]
        assert client.lost == 16
        await attempt.cut()
        command = await (await server.attempt()).accept()
        assert command["data"]["positions"]["odin.trades"] == {"0": 21, "1": -1, "2": 7}


async def test_records_of_a_recreated_topic_are_no_duplicates(server: FakeServer) -> None:
    """Offsets of a recreated topic begin at 0 again."""
    async with server.follow(positions={"odin.trades": {0: 500}}) as client:
        attempt = await server.attempt()
        await attempt.accept(
            recovered=False, lost={"odin.trades": {"0": [0, 3]}}, reason="unknown_position"
        )
        await attempt.message(1, "0-4")
        await take(client, Resumed)
        assert client.positions == {"odin.trades": {0: 3}}
        assert await take_offsets(client, 1) == [4]


async def test_loss_during_a_replay_is_reported(server: FakeServer) -> None:
    """A position that is already after the range stays."""
    async with server.follow(positions=START) as client:
        attempt = await server.attempt()
        await attempt.accept(replayed=None)
        await attempt.message(1, "0-30", replay=True)
        await attempt.send_item(
            type="replay_incomplete",
            id=1,
            count=1,
            lost={"odin.trades": {"0": [5, 29], "1": [0, 9]}},
            reason="expired",
        )
        assert (await take(client, Resumed)).recovered
        assert await take_offsets(client, 1) == [30]
        loss = await take(client, Resumed)
        assert not loss.recovered
        assert loss.lost == {"odin.trades": {0: (5, 29), 1: (0, 9)}}
        assert client.positions == {"odin.trades": {0: 30, 1: 9}}
        assert client.lost == 35


async def test_lost_notice_of_a_followed_topic_is_reported(server: FakeServer) -> None:
    """Messages before the range may still arrive."""
    async with server.follow(positions=START) as client:
        attempt = await server.attempt()
        await attempt.accept()
        for topic in ("odin.other", "odin.trades"):
            lost = {topic: {"0": [50, 59]}}
            await attempt.send_item(type="feed", status="lost", lost=lost, reason="expired")
        await attempt.message(1, "0-49", replay=True)
        assert (await take(client, Resumed)).recovered
        loss = await take(client, Resumed)
        assert (loss.recovered, loss.lost) == (False, {"odin.trades": {0: (50, 59)}})
        assert await take_offsets(client, 1) == [49]
        assert client.lost == 10


async def test_gap_in_numbers_is_resumed(server: FakeServer) -> None:
    """If a number is missing, the client disconnects and resumes before it."""
    async with server.follow() as client:
        attempt = await begin(server)
        await attempt.message(1, "0-5")
        await attempt.message(4, "0-8")
        assert (await attempt.closed())[0] == 1002
        attempt = await server.attempt()
        command = await attempt.accept()
        assert command["data"]["positions"]["odin.trades"] == {"0": 5, "1": -1}
        await attempt.message(1, "0-6")
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [5]
        lost = await take(client, Disconnected)
        assert lost.code == 1002
        assert "message 4 came after 1" in lost.reason
        await take(client, Resumed)
        assert await take_offsets(client, 1) == [6]
        assert client.gaps == 2


async def test_client_waits_for_after_ms_of_reconnect_notice(server: FakeServer) -> None:
    """Exactly `after_ms` first, then back-off."""
    async with server.follow() as client:
        attempt = await begin(server)
        await attempt.send_item(type="reconnect", data={"after_ms": 1840, "reason": "draining"})
        await attempt.close(1012, "the server is restarting")
        server.failures.append(OSError("nobody there"))
        left = trio.current_time()
        await take(client, Subscribed)
        assert await take(client, Disconnected) == Disconnected(
            1012, "the server is restarting", 1.84
        )
        assert await take(client, Disconnected) == Disconnected(1006, "nobody there", 0.2)
        await (await server.attempt()).accept()
        assert server.times[1:] == pytest.approx([left + 1.84, left + 2.04])
        assert (await take(client, Resumed)).seconds_away == pytest.approx(2.04)


async def test_advice_applies_without_a_close(server: FakeServer) -> None:
    """A server that is killed while it drains has sent the time already."""
    async with server.follow() as client:
        attempt = await begin(server)
        await attempt.send_item(type="reconnect", data={"after_ms": 700, "reason": "draining"})
        await wait_all_tasks_blocked()
        await attempt.cut()
        await take(client, Subscribed)
        assert (await take(client, Disconnected)).retry_in == 0.7


@pytest.mark.parametrize(("after_ms", "seconds"), [(-5, 0), (1e300, 86_400)])
async def test_advice_is_limited(server: FakeServer, after_ms: float, seconds: float) -> None:
    """It is neither negative nor endless."""
    async with server.follow() as client:
        attempt = await begin(server)
        await attempt.send_item(type="reconnect", data={"after_ms": after_ms, "reason": "draining"})
        await attempt.close(1012)
        await take(client, Subscribed)
        assert (await take(client, Disconnected)).retry_in == seconds


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1001, "going away"),
        (1008, "slow: messages waited too long to be taken"),
        (1008, "flooding: too many commands"),
        (1011, "internal error"),
        (1012, "the server is restarting"),
        (1013, "overloaded"),
        (4408, "nothing was received for too long"),
        (4999, ""),
    ],
)
async def test_temporary_close_is_resumed(server: FakeServer, code: int, reason: str) -> None:
    """A temporary cause does not end the client."""
    async with server.follow() as client:
        await (await begin(server)).close(code, reason)
        await take(client, Subscribed)
        assert await take(client, Disconnected) == Disconnected(code, reason, 0.2)
        await (await server.attempt()).accept()
        assert (await take(client, Resumed)).recovered


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1002, "not a valid WebSocket frame"),
        (1003, "commands are text frames"),
        (1007, "a text frame was not UTF-8"),
        (1008, "too many bad messages in a row"),
        (1009, "message too large"),
        (4401, "the token has expired"),
        (4403, "forbidden"),
    ],
)
async def test_permanent_close_ends_the_client(server: FakeServer, code: int, reason: str) -> None:
    """The error has the server's reason."""
    async with server.follow() as client:
        await (await begin(server)).close(code, reason)
        await take(client, Subscribed)
        assert await take(client, Disconnected) == Disconnected(code, reason, None)
        error = await ending(client)
        assert isinstance(error, ClosedByServer)
        assert str(error) == f"closed by the server: {code} {reason}"
        assert await ending(client) is error  # and it stays so
    assert len(server.times) == 1


async def test_normal_close_ends_the_iteration(server: FakeServer) -> None:
    """It is not an error."""
    async with server.follow() as client:
        await (await begin(server)).close(1000)
        await take(client, Subscribed)
        assert await take(client, Disconnected) == Disconnected(1000, "", None)
        assert await ending(client) is None


async def test_without_reconnect_the_iteration_ends_at_the_first_close(server: FakeServer) -> None:
    """A temporary cause is not an error."""
    async with server.follow(reconnect=False) as client:
        await (await begin(server)).close(1012, "the server is restarting")
        await take(client, Subscribed)
        assert (await take(client, Disconnected)).retry_in is None
        assert await ending(client) is None
    assert len(server.times) == 1


async def test_without_reconnect_a_failed_connect_is_an_error(server: FakeServer) -> None:
    """That there is nobody is an error then."""
    server.failures.append(OSError("nobody there"))
    async with server.follow(reconnect=False) as client:
        error = await ending(client)
    assert isinstance(error, ConnectFailed)
    assert str(error) == "nobody there"


async def test_waits_grow_until_the_connection_is_established(server: FakeServer) -> None:
    """Up to 15 seconds; they are short again after a connection of that length."""
    server.failures.extend(OSError("nobody there") for _ in range(9))
    async with server.follow() as client:
        waits = [(await take(client, Disconnected)).retry_in for _ in range(9)]
        assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15, 15])
        attempt = await begin(server)
        await take(client, Subscribed)
        await attempt.cut()
        assert (await take(client, Disconnected)).retry_in == 15
        attempt = await server.attempt()
        await attempt.accept()
        await attempt.message(1, "0-5")
        await take(client, Resumed)
        await take(client, Message)
        await attempt.cut()
        assert (await take(client, Disconnected)).retry_in == 15


async def test_long_connection_without_messages_resets_the_back_off(server: FakeServer) -> None:
    """If it lasted longer than the longest wait."""
    server.failures.extend(OSError("nobody there") for _ in range(9))
    async with server.follow(silence_seconds=1000) as client:
        for _ in range(9):
            await take(client, Disconnected)
        attempt = await begin(server)
        await take(client, Subscribed)
        await trio.sleep(16)
        await attempt.cut()
        assert (await take(client, Disconnected)).retry_in == 0.2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 426, 431, 302])
async def test_permanent_rejection_ends_the_client(server: FakeServer, status: int) -> None:
    """A wrong address stays wrong; the reason is the server's line of text."""
    async with server.follow() as client:
        await server.reject(status, b"only /ws here\n")
        error = await ending(client)
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.text) == (status, "only /ws here")
    assert str(error) == f"rejected with {status}: only /ws here"
    assert len(server.times) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_temporary_rejection_is_retried(server: FakeServer, status: int) -> None:
    """Also at the first attempt."""
    async with server.follow() as client:
        await server.reject(status)
        assert await take(client, Disconnected) == Disconnected(
            1006, f"rejected with {status}", 0.2
        )
        await begin(server)
        await take(client, Subscribed)


async def test_retry_after_is_the_shortest_wait(server: FakeServer) -> None:
    """The back-off may be longer. A date is ignored."""
    waits = []
    async with server.follow() as client:
        for value in (b"5", b"5", b"Tue, 24 Nov 2026 02:00:00 GMT", b"0", b"1"):
            await server.reject(503, b"full", [(b"Retry-After", value)])
            waits.append((await take(client, Disconnected)).retry_in)
    assert waits == pytest.approx([5, 5, 0.8, 1.6, 3.2])
