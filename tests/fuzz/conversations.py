"""Whole connections that say anything, beside a subscriber that nothing of it may reach."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import attrs
import trio

from odin_ws.records import Record
from odin_ws.settings import Settings
from odin_ws.testing.memory_connection import ClientStream
from odin_ws.testing.scenario import Scenario, ScenarioClient, open_scenario
from tests.fuzz.chunked_input import pieces
from tests.scenarios.wire import Op, frame, request
from tests.virtual_time import in_virtual_time

__all__ = ["check_caller", "check_resume", "check_session"]

# Small limits are met by small inputs.
_SETTINGS: Final = Settings(
    ws_command_burst=20,
    ws_max_header_bytes=1024,
    ws_max_fragments=8,
    ws_max_message_bytes=512,
    ws_max_subscriptions=8,
    ws_message_timeout_seconds=3,
    ws_send_queue_bytes=4096,
    ws_ping_interval_seconds=4,
    ws_pong_timeout_seconds=10,
)

# Nothing is kept in memory: what a client comes back to is read from the log.
_FROM_THE_LOG: Final = attrs.evolve(_SETTINGS, ws_history_bytes=0)

# What the network holds for one who does not read; then the send queue fills, and then it is slow.
_SMALL: Final = 2048

# One that says nothing more is found out by its missing pongs, and everybody else is sooner.
_MOST_SECONDS: Final = 2 * (_SETTINGS.ws_pong_timeout_seconds + _SETTINGS.ws_ping_interval_seconds)

_ROUNDS: Final = 5

# How it goes on when all is said; else it stays, and says nothing more.
_EOF: Final = 1
_BREAK: Final = 2


def check_session(data: bytes) -> None:
    """After a valid upgrade; the first byte says how it is cut, and the second how it goes on."""
    _check(data[1:], data[:1], on_open=request())


def check_caller(data: bytes) -> None:
    """Likewise, from the first byte of the connection on."""
    _check(data[1:], data[:1], on_open=b"")


def check_resume(data: bytes) -> None:
    """After a valid upgrade, each line as a command of its own: resumes, replays, subscribes.

    The first byte says how it goes on, and whether the past comes from the log.
    """
    manner = data[0] if data else 0
    parts = [request(), *(frame(Op.TEXT, line) for line in data[1:].split(b"\n"))]
    settings = _FROM_THE_LOG if manner & 8 else _SETTINGS
    in_virtual_time(lambda _clock: _converse(parts, manner, settings))


def _check(data: bytes, way: bytes, *, on_open: bytes) -> None:
    parts = [on_open, *pieces(data)]
    manner = way[0] if way else 0
    in_virtual_time(lambda _clock: _converse(parts, manner))


async def _converse(parts: Sequence[bytes], manner: int, settings: Settings = _SETTINGS) -> None:
    """Say it to a server; its other subscriber gets all messages, and it has no error."""
    reads, ending = manner & 1, manner >> 1 & 3
    async with open_scenario(settings, partitions=1) as scenario, trio.open_nursery() as nursery:
        witness = await scenario.connect()
        await witness.subscribe(channels=["*.trade"])
        stream = await scenario.dial(1 << 20 if reads else _SMALL)
        if reads:
            nursery.start_soon(_read, stream)
        nursery.start_soon(_say, stream, parts)
        records = []
        for number in range(_ROUNDS):
            records.append(scenario.publish(f"T{number}", "trade", "x" * 1024))
            await trio.sleep(0.1)
        if ending == _EOF:
            await stream.send_eof()
        elif ending == _BREAK:
            stream.break_off()
        records.append(scenario.publish("BTC", "trade"))
        await _check_witness(witness, records)
        await _is_over(scenario)
        nursery.cancel_scope.cancel()


async def _say(stream: ClientStream, parts: Sequence[bytes]) -> None:
    with suppress(trio.BrokenResourceError):
        for part in parts:
            await stream.send_all(part)


async def _read(stream: ClientStream) -> None:
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def _check_witness(witness: ScenarioClient, records: Sequence[Record]) -> None:
    """It has been sent every record once, in order, and nothing else."""
    messages = await witness.messages(len(records))
    assert [one["seq"] for one in messages] == list(range(1, len(records) + 1))
    assert [one["pos"] for one in messages] == [f"{one.partition}-{one.offset}" for one in records]
    assert await witness.silence(1)


async def _is_over(scenario: Scenario) -> None:
    """Whoever it was is gone in time, nothing is kept of it, and nothing of ours has failed."""
    server = scenario.service.server
    await trio.sleep(_MOST_SECONDS)
    assert len(server.connections) == 1
    assert len(server.handshaker.limiter) == 0
    assert server.stats.opened - server.stats.closed.total() == 1
    assert server.stats.errors == 0
