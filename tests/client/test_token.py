"""How a client comes to its tokens, when it sends them, and that it shows none."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from odin_ws.client import (
    Client,
    ClosedByServer,
    ConnectFailed,
    Disconnected,
    InvalidToken,
    Message,
    Refused,
    Resumed,
    Subscribed,
    SubscriptionRejected,
    Unsubscribed,
    open_client,
)
from odin_ws.client.connection import open_connection
from odin_ws.client.url import read_url
from tests.client.fake import (
    START,
    TRADES,
    FakeServer,
    Visit,
    begin,
    ending,
    take,
    take_offsets,
)
from tests.client.tokens import Given

# What the server may answer to a good token. The second does not say that it is about one.
REFUSALS: list[dict[str, Any]] = [
    {"type": "auth_error", "data": {"code": "not_available", "message": "later"}},
    {"type": "error", "code": "RATE_LIMIT_EXCEEDED", "message": "later", "retry": True},
]


async def visit_with(server: FakeServer) -> tuple[str | None, Visit]:
    """The Authorization header of the next connection, which is subscribed or resumes."""
    request, stream = await server.request()
    headers = {name.lower(): value for name, value in request.headers}
    visit = Visit(await request.accept(), stream)
    await visit.accept(START)
    given = headers.get(b"authorization")
    return None if given is None else given.decode(), visit


def calm(server: FakeServer, **options: Any) -> AbstractAsyncContextManager[Client]:
    """A client that asks for no signs of life."""
    return server.follow(silence_seconds=1000, **options)


async def expire(visit: Visit, seconds: float = 30) -> None:
    """Say that the token is about to end."""
    await visit.say(type="auth", status="expiring", expires_in_ms=1000 * seconds)


async def renewed(visit: Visit) -> str:
    """The token of the next command, which has to be an `auth`."""
    command = await visit.command()
    assert command["type"] == "auth"
    assert command["data"].keys() == {"token"}
    return str(command["data"]["token"])


# ---- connecting


async def test_it_stands_in_the_header(server: FakeServer) -> None:
    """As RFC 6750 has it, on every connection; without a token there is no such header."""
    async with server.follow(token="a.b-c_d") as client:  # noqa: S106 -- a test's
        for _ in range(2):
            given, visit = await visit_with(server)
            assert given == "Bearer a.b-c_d"
            await visit.cut()
        await take(client, Subscribed)
    async with server.follow():
        assert (await visit_with(server))[0] is None


async def test_each_connection_has_a_fresh_one(server: FakeServer) -> None:
    """It is asked for when it is needed, so a client that comes back has none that ended."""
    tokens = Given(["one", "two", "three"])
    async with server.follow(token=tokens):
        for count, name in enumerate(("one", "two", "three"), 1):
            given, visit = await visit_with(server)
            assert (given, tokens.calls) == (f"Bearer {name}", count)
            await visit.cut()


@pytest.mark.parametrize("why", [OSError("away"), ConnectFailed("away")], ids=["OSError", "other"])
async def test_where_none_is_to_be_had_it_tries_again(server: FakeServer, why: Exception) -> None:
    """The one who issues them may be away for a while, as a server may; nobody dials meanwhile."""
    async with calm(server, token=Given([why, "two"])) as client:
        lost = await take(client, Disconnected)
        assert lost.reason.endswith("away")
        assert lost.retry_in == 0.2
        assert not server.times
        assert (await visit_with(server))[0] == "Bearer two"
        await take(client, Subscribed)


async def test_whoever_makes_tokens_can_end_it(server: FakeServer) -> None:
    """With an error that says that there will never be one."""
    why = ConnectFailed("no such user", lasting=True)
    async with calm(server, token=Given([why])) as client:
        assert await ending(client) is why


async def test_it_does_not_wait_for_a_token_for_ever(server: FakeServer) -> None:
    """It has as long as connecting has."""

    async def never() -> str:
        await trio.sleep_forever()
        raise AssertionError

    async with server.follow(token=never, connect_seconds=7) as client:
        assert (await take(client, Disconnected)).reason == "no token within 7 s"
        assert trio.current_time() == pytest.approx(7)


# ---- refused, closed


async def test_a_fixed_one_that_is_refused_ends_it(server: FakeServer) -> None:
    """It would be the same again: the error has the server's words."""
    async with server.follow(token="old") as client:  # noqa: S106 -- a test's
        await server.refuse(401, b"the token has expired")
        error = await ending(client)
    assert isinstance(error, Refused)
    assert str(error) == "refused with 401: the token has expired"
    assert len(server.times) == 1


async def test_after_a_refusal_it_comes_with_a_new_one(server: FakeServer) -> None:
    """As often as it has to, with the usual waits, and says so each time."""
    async with calm(server, token=Given(["one", "two", "three"])) as client:
        for wait in (0.2, 0.4):
            await server.refuse(401, b"the token has expired")
            refused = await take(client, Disconnected)
            assert (refused.reason, refused.retry_in) == (
                "refused with 401: the token has expired",
                wait,
            )
        assert (await visit_with(server))[0] == "Bearer three"
        await take(client, Subscribed)


async def test_a_fixed_one_that_has_ended_ends_it(server: FakeServer) -> None:
    """Nothing is sent at the notice, and the close is the last word."""
    async with server.follow(token="old") as client:  # noqa: S106 -- a test's
        visit = await begin(server)
        await expire(visit)
        await trio.sleep(9)
        await visit.close(4401, "the token has expired")
        error = await ending(client)
    assert isinstance(error, ClosedByServer)
    assert (error.code, error.reason) == (4401, "the token has expired")
    assert len(server.times) == 1


async def test_after_its_end_it_resumes_with_a_new_one(server: FakeServer) -> None:
    """Nothing is lost by that."""
    async with calm(server, token=Given(["one", "two"])) as client:
        visit = await begin(server)
        await visit.message(1, "0-5")
        await visit.close(4401, "the token has expired")
        await take(client, Subscribed)
        await take(client, Message)
        assert (await take(client, Disconnected)).retry_in == 0.2
        request, stream = await server.request()
        assert (b"authorization", b"Bearer two") in request.headers
        command = await Visit(await request.accept(), stream).accept()
        assert command["data"]["positions"]["odin.trades"] == {"0": 5, "1": -1}
        await take(client, Resumed)


@pytest.mark.parametrize("code", [4403, 1002])
async def test_other_closes_are_the_last_word(server: FakeServer, code: int) -> None:
    """A new token does not help who was put out."""
    async with calm(server, token=Given(["one", "two"])) as client:
        await (await begin(server)).close(code, "access was revoked")
        assert isinstance(await ending(client), ClosedByServer)


@pytest.mark.parametrize("status", [403, 404])
async def test_other_refusals_are_the_last_word(server: FakeServer, status: int) -> None:
    """A new token does not help there either."""
    async with calm(server, token=Given(["one", "two"])) as client:
        await server.refuse(status)
        assert isinstance(await ending(client), Refused)


# ---- staying


async def test_at_the_notice_it_goes_on_with_a_new_one(server: FakeServer) -> None:
    """Within half of the time that is left, each time; the connection stays."""
    async with calm(server, token=Given(["one", "two", "three"])) as client:
        visit = await begin(server)
        for name in ("two", "three"):
            told = trio.current_time()
            await expire(visit)
            assert await renewed(visit) == name
            assert trio.current_time() - told == pytest.approx(15)
            await visit.say(type="auth_ack", data={"exp": 1})
        await visit.message(1, "0-5")
        await take(client, Subscribed)
        assert await take_offsets(client, 1) == [5]
        assert client.connections == 1


async def test_messages_come_meanwhile(server: FakeServer) -> None:
    """A token that takes long to make holds up nothing, a sign of life neither."""
    ready = trio.Event()

    async def slow() -> str:
        if server.times:
            await ready.wait()
        return "two" if server.times else "one"

    async with server.follow(token=slow, connect_seconds=100) as client:
        visit = await begin(server)
        await take(client, Subscribed)
        await expire(visit, 4)
        await trio.sleep(5)
        await visit.message(1, "0-5")
        assert await take_offsets(client, 1) == [5]
        assert await visit.command() == {"type": "heartbeat"}
        ready.set()
        assert await renewed(visit) == "two"


async def test_before_the_ack_too(server: FakeServer) -> None:
    """A server that takes long over the subscription may say it first."""
    async with calm(server, token=Given(["one", "two"])) as client:
        visit = await server.visit()
        command = await visit.command()
        await expire(visit, 20)
        assert await renewed(visit) == "two"
        await visit.say(
            type="subscription_ack",
            id=command["id"],
            subscribed=["*.trade"],
            categories={"trade": "odin.trades"},
        )
        await take(client, Subscribed)


async def test_while_nobody_takes_items_it_waits(server: FakeServer) -> None:
    """It is sent when there is room again, and once."""
    tokens = Given(["one", "two"])
    async with server.follow(token=tokens, silence_seconds=100) as client:
        visit = await begin(server)
        await expire(visit)
        for seq in range(1, 20):
            await visit.message(seq, f"0-{4 + seq}")
            await wait_all_tasks_blocked()
        await trio.sleep(20)
        assert tokens.calls == 2
        await take(client, Subscribed)
        assert await take_offsets(client, 19) == list(range(5, 24))
        assert await renewed(visit) == "two"
        await visit.message(20, "0-24")
        assert await take_offsets(client, 1) == [24]
        assert (await visit.command())["type"] == "heartbeat"


@pytest.mark.parametrize(
    "nothing", ["one", OSError("away"), "not a token"], ids=["the same", "none", "no good one"]
)
async def test_it_asks_until_there_is_another(server: FakeServer, nothing: str | Exception) -> None:
    """The same one would not help: a file, say, that is written a little later."""
    async with calm(server, token=Given(["one", nothing, nothing, "two"])) as client:
        visit = await begin(server)
        told = trio.current_time()
        await expire(visit, 40)
        assert await renewed(visit) == "two"
        assert trio.current_time() - told == pytest.approx(20 + 10 + 5)
        await take(client, Subscribed)


async def test_one_that_is_refused_is_followed_by_another(server: FakeServer) -> None:
    """In what is left of the time."""
    async with calm(server, token=Given(["one", "two", "three"])):
        visit = await begin(server)
        await expire(visit, 40)
        assert await renewed(visit) == "two"
        refused = trio.current_time()
        await visit.say(type="auth_error", data={"code": "not_available", "message": "later"})
        assert await renewed(visit) == "three"
        assert trio.current_time() - refused == pytest.approx(10)


@pytest.mark.parametrize("refusal", REFUSALS, ids=["the key", "a flood"])
async def test_one_that_is_refused_is_offered_again(
    server: FakeServer, refusal: dict[str, Any]
) -> None:
    """It may be taken a little later; then it is the same one, which is not sent."""
    tokens = Given(["one", "two", "two", "two", "three"])
    async with calm(server, token=tokens) as client:
        visit = await begin(server)
        await take(client, Subscribed)
        await expire(visit, 40)
        assert await renewed(visit) == "two"
        refused = trio.current_time()
        await visit.say(**refusal)
        assert await renewed(visit) == "two"
        assert trio.current_time() - refused == pytest.approx(10)
        await visit.say(type="auth_ack", data={"exp": 1})
        await expire(visit, 40)
        assert await renewed(visit) == "three"
        assert tokens.calls == 5


async def test_one_that_is_never_taken_is_no_storm(server: FakeServer) -> None:
    """It is offered a few times, the last of them before the old one ends."""
    async with calm(server, token=Given(["one", "two"])):
        visit = await begin(server)
        told = trio.current_time()
        await expire(visit, 30)
        for _ in range(4):
            assert await renewed(visit) == "two"
            await visit.say(**REFUSALS[0])
        assert trio.current_time() - told < 30
        with trio.move_on_after(60) as scope:
            await visit.command()
        assert scope.cancelled_caught


async def test_a_flood_is_no_reason_for_another(server: FakeServer) -> None:
    """Nobody is asked where the token that the connection stands on is not about to end."""
    tokens = Given(["one", "two", "three"])
    async with calm(server, token=tokens) as client:
        visit = await begin(server)
        await take(client, Subscribed)
        await visit.say(**REFUSALS[1])
        await trio.sleep(40)
        assert tokens.calls == 1
        await expire(visit, 40)
        assert await renewed(visit) == "two"
        await visit.say(type="auth_ack", data={"exp": 1})
        await visit.say(**REFUSALS[1])
        await trio.sleep(40)
        assert tokens.calls == 2


async def test_near_the_end_it_gives_up(server: FakeServer) -> None:
    """However often it fails, the issuer is not stormed; the close comes soon."""
    tokens = Given(["one"])
    async with calm(server, token=tokens) as client:
        visit = await begin(server)
        await take(client, Subscribed)
        await expire(visit, 40)
        await trio.sleep(60)
        assert tokens.calls <= 7
        await expire(visit, 1)
        await trio.sleep(60)
        assert tokens.calls <= 7


async def test_what_is_not_granted_any_more_is_told(server: FakeServer) -> None:
    """Nothing ends in silence."""
    async with calm(server, token=Given(["one", "two"])) as client:
        visit = await begin(server)
        await take(client, Subscribed)
        await visit.say(
            type="unsubscription_ack", unsubscribed=["*.trade"], rejected=[], count=1, forced=True
        )
        assert await take(client, Unsubscribed) == Unsubscribed(("*.trade",))


async def test_a_token_that_grants_nothing_ends_it(server: FakeServer) -> None:
    """As a subscription of which every name is rejected."""
    async with calm(server, token=Given(["one", "two"])) as client:
        visit = await begin(server)
        await take(client, Subscribed)
        await visit.say(
            type="unsubscription_ack", unsubscribed=["*.trade"], rejected=[], count=0, forced=True
        )
        error = await ending(client)
    assert isinstance(error, SubscriptionRejected)
    assert [(one.name, one.code) for one in error.rejected] == [("*.trade", "FORBIDDEN")]


# ---- shown to nobody

BAD: list[Any] = ["", "sesame\r\nX: y", "sesame open", "sésame", "Bearer sesame", None, b"sesame"]


@pytest.mark.parametrize("bad", [one for one in BAD if isinstance(one, str)])
def test_what_cannot_be_one_is_said_at_once(bad: str) -> None:
    """With what is allowed, and without what was given."""
    with pytest.raises(InvalidToken, match="letters, digits") as caught:
        open_client("ws://odin.test/ws", TRADES, token=bad)
    assert "sesame" not in repr(caught.value)


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_returned_and_cannot_be_one(server: FakeServer, bad: Any) -> None:
    """No request is made with it, and the next may be good: a file that is being written, say."""
    async with calm(server, token=Given([bad, "two"])) as client:
        lost = await take(client, Disconnected)
        assert "letters, digits" in lost.reason
        assert "sesame" not in lost.reason
        assert lost.retry_in == 0.2
        assert not server.times
        assert (await visit_with(server))[0] == "Bearer two"
        await take(client, Subscribed)


async def test_without_coming_back_it_is_an_error(server: FakeServer) -> None:
    """Of its own kind, which does not show it either."""
    async with calm(server, token=Given(["open sesame"]), reconnect=False) as client:
        error = await ending(client)
    assert isinstance(error, InvalidToken)
    assert "sesame" not in f"{error!r} {error}"
    assert not server.times


async def test_it_is_not_shown(server: FakeServer) -> None:
    """By no repr of a client, an item or an error."""
    shown: list[str] = []
    manager = server.follow(token="sesame")  # noqa: S106 -- a test's
    async with manager as client:
        visit = await begin(server)
        shown.append(repr((vars(manager), vars(client))))
        await expire(visit)
        await visit.cut()
        await server.refuse(401, b"the token is not valid")
        shown += [repr(await take(client, kind)) for kind in (Subscribed, Disconnected)]
        shown.append(repr(await ending(client)))
    assert "sesame" not in "".join(shown)
    assert len(shown) == 4


async def test_a_wake_is_not_forgotten(server: FakeServer) -> None:
    """Who is woken while he does something else waits for nothing afterwards, once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.visit)
        connection = await open_connection(
            server.connect,
            read_url("ws://odin.test/ws"),
            token=None,
            seconds=10,
            silence=100,
            heartbeat="{}",
        )
    connection.wake()
    began = trio.current_time()
    assert await connection.receive() == []
    assert trio.current_time() == began
    assert await connection.receive(began + 5) == []
    assert trio.current_time() == pytest.approx(began + 5)
