"""The client with a server that requires tokens: a token renewed in time keeps the connection."""

from __future__ import annotations

import itertools

import pytest
import trio

from odin_ws.testing.scenario import open_scenario
from odin_ws_client import (
    Disconnected,
    HandshakeRejected,
    Message,
    Resumed,
    Subscribed,
    Subscription,
    Unsubscribed,
)
from tests.client_python.fake import TRADES, ending, take, take_offsets
from tests.client_python.shells import Open
from tests.client_python.tokens import Given
from tests.jwt_issuer import issuer, jwt_settings


def token(seconds: float = 3600, *channels: str) -> str:
    """A good one, for these channels or for the usual."""
    return issuer("HS256").token(seconds, channels=list(channels) or None)


async def test_connection_outlives_its_tokens(open_client: Open) -> None:
    """One connection, renewed with tokens of a minute each."""
    calls = itertools.count()

    async def short() -> str:
        # The issuer's clock stands still: what is said at the same time would be the same token.
        return token(60, "*.trade", f"T{next(calls)}.trade")

    async with (
        open_scenario(jwt_settings()) as scenario,
        open_client("ws://odin.test/ws", TRADES, token=short, connect=scenario.dial) as client,
    ):
        await take(client, Subscribed)
        for number in range(10):
            scenario.publish("BTC", "trade", number)
            assert await take_offsets(client, 1) == [number]
            await trio.sleep(60)
        assert client.connections == 1
        assert 10 <= next(calls) <= 40


async def test_late_token_leads_to_a_resume(open_client: Open) -> None:
    """Records published between the close and the next token are replayed."""
    late, good = token(60), token()
    start = trio.current_time()

    async def slow() -> str:
        if start + 65 < trio.current_time() < start + 75:
            raise OSError("away")
        return late if trio.current_time() <= start + 65 else good

    async with (
        open_scenario(jwt_settings(ws_token_expiry_notice_seconds=10)) as scenario,
        open_client("ws://odin.test/ws", TRADES, token=slow, connect=scenario.dial) as client,
    ):
        await take(client, Subscribed)
        for number in range(4):
            scenario.publish("BTC", "trade", number)
            await trio.sleep(60)
        offsets: list[int] = []
        codes: list[int] = []
        while len(offsets) < 4:
            item = await anext(client)
            if isinstance(item, Message):
                offsets.append(item.offset)
            elif isinstance(item, Disconnected):
                codes.append(item.code)
            else:
                assert isinstance(item, Resumed)
                assert item.recovered
        assert offsets == list(range(4))
        assert codes[0] == 4401
        assert client.connections == 2


async def test_narrower_token_ends_its_other_names(open_client: Open) -> None:
    """The names that it does not grant end; the others continue, also over a new connection."""
    tokens = Given([token(60, "*.trade", "*.balances"), token(3600, "*.trade")])
    both = Subscription(channels=["*.balances", "*.trade"])
    async with (
        open_scenario(jwt_settings()) as scenario,
        open_client("ws://odin.test/ws", both, token=tokens, connect=scenario.dial) as client,
    ):
        await take(client, Subscribed)
        assert (await take(client, Unsubscribed)).names == ("*.balances",)
        scenario.publish("BTC", "balances")
        scenario.publish("BTC", "trade")
        assert (await take(client, Message)).channel == "BTC.trade"
        async with open_client(
            "ws://odin.test/ws",
            both,
            token=tokens,
            positions=client.positions,
            connect=scenario.dial,
        ) as other:
            resumed = await take(other, Resumed)
            assert (resumed.names, resumed.recovered) == (("*.trade",), True)
            assert [one.name for one in resumed.rejected] == ["*.balances"]


@pytest.mark.parametrize("wrong", ["nonsense", token(-100)], ids=["nonsense", "old"])
async def test_wrong_token_is_rejected_once(open_client: Open, wrong: str) -> None:
    """The error has the server's reason, and not the token."""
    async with (
        open_scenario(jwt_settings()) as scenario,
        open_client("ws://odin.test/ws", TRADES, token=wrong, connect=scenario.dial) as client,
    ):
        error = await ending(client)
        assert isinstance(error, HandshakeRejected)
        assert error.status == 401
        assert error.reason.startswith("rejected with 401: the token")
        assert wrong not in repr(error)
