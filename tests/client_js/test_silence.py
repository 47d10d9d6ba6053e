"""How the JavaScript client detects that the server no longer responds."""

from __future__ import annotations

import trio

from tests.client_js.beginning import begun
from tests.client_js.fake import FakeServer

START = {"odin.trades": {"0": 4, "1": -1}}

# The server has to answer within it, also on a busy machine, where a process stalls for a second.
SILENCE_MS = 3000


async def test_heartbeat_is_sent_after_silence(server: FakeServer) -> None:
    """After a silence the client sends a heartbeat, again as long as it is answered."""
    async with server.follow(silence=SILENCE_MS) as follower:
        # Before the client receives anything: its silence begins later, however late this is seen.
        since = trio.current_time()
        visit = await begun(server, follower)
        for _ in range(2):
            assert await visit.command() == {"type": "heartbeat"}
            assert trio.current_time() - since > SILENCE_MS / 1000 / 2
            since = trio.current_time()
            await visit.send_item("pong", ts=1)
        await visit.message(1, "0-0")
        await follower.message()


async def test_any_message_answers_the_heartbeat(server: FakeServer) -> None:
    """Any message after the heartbeat counts as its response."""
    async with server.follow(silence=SILENCE_MS) as follower:
        visit = await begun(server, follower)
        assert await visit.command() == {"type": "heartbeat"}
        await visit.message(1, "0-0")
        await follower.message()
        assert await visit.command() == {"type": "heartbeat"}


async def test_silent_server_is_disconnected(server: FakeServer) -> None:
    """Without any response for the same time again, the client disconnects and resumes."""
    async with server.follow(silence=SILENCE_MS) as follower:
        visit = await begun(server, follower, positions=START)
        assert await visit.command() == {"type": "heartbeat"}
        left = await follower.notice("disconnected")
        assert (left.item["code"], left.item["reason"]) == (
            1006,
            "nothing was received for too long",
        )
        assert (await (await server.visit()).command())["type"] == "resume"


async def test_silent_handshake_is_aborted(server: FakeServer) -> None:
    """A connection that is not established within the silence is aborted."""
    # A moment later: what Node gave up a millisecond ago would delay the next.
    async with server.follow(silence=SILENCE_MS, backoff=[100, 100], random=1) as follower:
        stream = await server.accepted()
        await follower.notice("disconnected")
        # Node delays the next handshake until the aborted one has ended.
        await stream.aclose()
        await begun(server, follower)


async def test_late_token_does_not_shorten_the_handshake_timeout(server: FakeServer) -> None:
    """A handshake has its own timeout, however long its token has taken."""
    async with server.follow(silence=SILENCE_MS, tokens=["late"]) as follower:
        stream = await server.accepted()
        dialled = await follower.next_event()
        assert dialled.kind == "token"
        left = await follower.notice("disconnected")
        # By the clock of Node: here either may be seen late.
        assert left.at - dialled.at > 0.9 * SILENCE_MS / 1000
        await stream.aclose()
