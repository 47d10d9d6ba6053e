"""For each disconnect reason, the actions of a client or the server that lead to it."""

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
from tests.scenarios.buggy_transport import open_buggy
from tests.scenarios.wire import Op, RawClient

__all__ = ["ENDINGS", "end_connection", "every_disconnect_reason"]


async def _subscriber(scenario: Scenario, *, capacity: int = 1 << 20) -> RawClient:
    needs_token = scenario.service.server.authenticator.jwt_verifier is not None
    headers = {"Authorization": f"Bearer {issuer('HS256').token(20)}"} if needs_token else None
    client = await RawClient.open(scenario, capacity=capacity, headers=headers)
    await client.subscribe("*.trade", "BTC.analytics" if needs_token else "BTC.*")
    return client


async def _close(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.CLOSE, b"\x03\xe8")


async def _break_off(scenario: Scenario) -> None:
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


async def _leave_message_unfinished(scenario: Scenario) -> None:
    await (await _subscriber(scenario)).send(Op.TEXT, b"{", fin=False)


async def _send_invalid_frame(scenario: Scenario) -> None:
    client = await _subscriber(scenario)
    for _ in range(50):
        await client.send(Op.TEXT, b"?")


async def _read_nothing(scenario: Scenario) -> None:
    await _subscriber(scenario, capacity=500)
    for _ in range(20):
        scenario.publish("BTC", "trade", "x" * 100_000)
        await trio.sleep(0.2)


async def _ignore_pings(scenario: Scenario) -> None:
    await _subscriber(scenario)
    await trio.sleep(120)


async def _hit_a_bug(scenario: Scenario) -> None:
    client, wire = await open_buggy(scenario)
    await client.subscribe("*.trade", "BTC.*")
    wire.fail()


async def _be_drained(scenario: Scenario) -> None:
    await _subscriber(scenario)
    await scenario.drain()


async def _lose_its_partitions(scenario: Scenario) -> None:
    await _subscriber(scenario)
    scenario.service.hub.stream.revoked_topics.value = frozenset({"odin.trades"})


async def _let_token_expire(scenario: Scenario) -> None:
    await _subscriber(scenario)
    await trio.sleep(60)


async def _be_revoked(scenario: Scenario) -> None:
    await _subscriber(scenario)
    scenario.service.server.connections.revoke(Revocation(user="ann"))


async def _fail_to_replay(scenario: Scenario) -> None:
    scenario.log_reader.fail()
    await EventSource.open(scenario, "channels=*.trade&since_ms=0")
    await trio.sleep(60)


# For each reason the actions of one connection that has or requests subscriptions.
ENDINGS: Final[dict[DisconnectReason, Callable[[Scenario], Awaitable[None]]]] = {
    DisconnectReason.CLIENT: _close,
    DisconnectReason.LOST: _break_off,
    DisconnectReason.PROTOCOL: _send_unmasked,
    DisconnectReason.BINARY: _send_binary,
    DisconnectReason.NOT_UTF8: _send_bad_utf8,
    DisconnectReason.SLOW: _read_nothing,
    DisconnectReason.FLOODING: _send_too_often,
    DisconnectReason.UNFINISHED: _leave_message_unfinished,
    DisconnectReason.BAD_COMMANDS: _send_invalid_frame,
    DisconnectReason.TOO_LARGE: _send_too_much,
    DisconnectReason.INTERNAL: _hit_a_bug,
    DisconnectReason.DRAINING: _be_drained,
    DisconnectReason.NOT_AVAILABLE: _fail_to_replay,
    DisconnectReason.REBALANCED: _lose_its_partitions,
    DisconnectReason.TOKEN_EXPIRED: _let_token_expire,
    DisconnectReason.REVOKED: _be_revoked,
    DisconnectReason.NO_PONG: _ignore_pings,
}


# Token reasons need a server that requires tokens.
every_disconnect_reason: Final = pytest.mark.parametrize(
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


async def end_connection(scenario: Scenario, reason: DisconnectReason) -> None:
    """Open a connection, subscribe, end it for this reason, and wait until it is closed."""
    await ENDINGS[reason](scenario)
    await trio.sleep(30)
