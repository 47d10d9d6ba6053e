"""Every way a connection can end, each as what one client or the server does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from odin_ws.auth.revocations import Revocation
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource
from tests.jwt_issuer import TOKENS_ARE_ASKED_FOR, issuer
from tests.scenarios.faulty import open_buggy
from tests.scenarios.wire import Op, RawClient

__all__ = ["ENDINGS", "end", "every_ending"]


async def _subscriber(scenario: Scenario, *, capacity: int = 1 << 20) -> RawClient:
    asked = scenario.service.server.authenticator.jwt_verifier is not None
    headers = {"Authorization": f"Bearer {issuer('HS256').token(20)}"} if asked else None
    client = await RawClient.open(scenario, capacity=capacity, headers=headers)
    await client.subscribe("*.trade", "BTC.analytics" if asked else "BTC.*")
    return client


async def _close(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.CLOSE, b"\x03\xe8")


async def _vanish(scenario: Scenario) -> None:
    (await _subscriber(scenario)).stream.break_off()


async def _send_unmasked(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.TEXT, b"{}", mask=False)


async def _send_binary(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.BINARY, b"{}")


async def _send_bad_utf8(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.TEXT, b'{"type":"\xff"}')


async def _send_too_much(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.TEXT, b" " * 65_537)


async def _send_too_often(scenario: Scenario) -> None:
    client = await _subscriber(scenario)
    for _ in range(200):
        await client.command("heartbeat")


async def _begin_only(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.TEXT, b"{", fin=False)


async def _send_nonsense(scenario: Scenario) -> None:
    client = await _subscriber(scenario)
    for _ in range(50):
        await client.send(Op.TEXT, b"?")


async def _read_nothing(scenario: Scenario) -> None:
    await _subscriber(scenario, capacity=500)
    for _ in range(20):
        scenario.publish("BTC", "trade", "x" * 100_000)
        await trio.sleep(0.2)


async def _say_nothing(scenario: Scenario) -> None:
    await _subscriber(scenario)
    await trio.sleep(120)


async def _meet_a_bug(scenario: Scenario) -> None:
    client, wire = await open_buggy(scenario)
    await client.subscribe("*.trade", "BTC.*")
    wire.fail()


async def _see_a_drain(scenario: Scenario) -> None:
    await _subscriber(scenario)
    await scenario.drain()


async def _lose_its_partitions(scenario: Scenario) -> None:
    await _subscriber(scenario)
    scenario.service.hub.stream.revoked_topics.value = frozenset({"odin.trades"})


async def _let_the_token_end(scenario: Scenario) -> None:
    await _subscriber(scenario)
    await trio.sleep(60)


async def _be_revoked(scenario: Scenario) -> None:
    await _subscriber(scenario)
    scenario.service.server.connections.revoke(Revocation(user="ann"))


async def _find_no_log(scenario: Scenario) -> None:
    scenario.log_reader.fail()
    await EventSource.open(scenario, "channels=*.trade&since_ms=0")
    await trio.sleep(60)


# For each reason what leads to it, for one connection that has subscriptions or asks for some.
ENDINGS: Final[dict[DisconnectReason, Callable[[Scenario], Awaitable[None]]]] = {
    DisconnectReason.CLIENT: _close,
    DisconnectReason.LOST: _vanish,
    DisconnectReason.PROTOCOL: _send_unmasked,
    DisconnectReason.BINARY: _send_binary,
    DisconnectReason.NOT_UTF8: _send_bad_utf8,
    DisconnectReason.SLOW: _read_nothing,
    DisconnectReason.FLOODING: _send_too_often,
    DisconnectReason.UNFINISHED: _begin_only,
    DisconnectReason.BAD_COMMANDS: _send_nonsense,
    DisconnectReason.TOO_LARGE: _send_too_much,
    DisconnectReason.INTERNAL: _meet_a_bug,
    DisconnectReason.DRAINING: _see_a_drain,
    DisconnectReason.NOT_AVAILABLE: _find_no_log,
    DisconnectReason.REBALANCED: _lose_its_partitions,
    DisconnectReason.TOKEN_EXPIRED: _let_the_token_end,
    DisconnectReason.REVOKED: _be_revoked,
    DisconnectReason.NO_PONG: _say_nothing,
}


# Those that are about tokens need a server that asks for them.
every_ending: Final = pytest.mark.parametrize(
    "reason",
    [
        pytest.param(
            reason,
            id=reason.value.label,
            marks=[TOKENS_ARE_ASKED_FOR]
            * (reason in {DisconnectReason.TOKEN_EXPIRED, DisconnectReason.REVOKED}),
        )
        for reason in DisconnectReason
    ],
)


async def end(scenario: Scenario, reason: DisconnectReason) -> None:
    """Let one connection come, subscribe and end for that reason, and wait until it is over."""
    await ENDINGS[reason](scenario)
    await trio.sleep(30)
