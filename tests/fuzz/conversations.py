"""Whole connections with arbitrary bytes, beside a subscriber that they must not affect."""

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
from tests.fuzz.chunked_input import chunks
from tests.scenarios.wire import Op, frame, request
from tests.virtual_time import in_virtual_time

__all__ = ["check_client", "check_resume", "check_session", "run_request"]

# Small inputs reach small limits.
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

# Without history in memory: a client replays from the log.
_FROM_THE_LOG: Final = attrs.evolve(_SETTINGS, ws_history_bytes=0)

# The whole subscription is in the request.
_PLAIN: Final = attrs.evolve(_SETTINGS, ws_max_header_bytes=4096)
_PLAIN_FROM_THE_LOG: Final = attrs.evolve(_PLAIN, ws_history_bytes=0)

# Bytes that the network holds for a client that does not read; then its send queue fills.
_SMALL: Final = 2048

# A silent client is closed for missing pongs, every other one sooner.
_MAX_SECONDS: Final = 2 * (_SETTINGS.ws_pong_timeout_seconds + _SETTINGS.ws_ping_interval_seconds)

_ROUNDS: Final = 5

# How the connection ends after the last byte: by default the client stays silent.
_EOF: Final = 1
_BREAK: Final = 2


def check_session(data: bytes) -> None:
    """Fuzz after a valid upgrade; the first byte selects the chunks, the second the ending."""
    _check(data[1:], data[:1], on_open=request())


def check_client(data: bytes) -> None:
    """Fuzz from the first byte of the connection on."""
    _check(data[1:], data[:1], on_open=b"")


def check_resume(data: bytes) -> None:
    """Fuzz after a valid upgrade, with each line as a command: resumes, replays, subscribes.

    The first byte selects the ending, and whether replays come from the log.
    """
    ending_byte = data[0] if data else 0
    parts = [request(), *(frame(Op.TEXT, line) for line in data[1:].split(b"\n"))]
    settings = _FROM_THE_LOG if ending_byte & 8 else _SETTINGS
    in_virtual_time(lambda _clock: _run_connection(parts, ending_byte, settings))


def run_request(parts: Sequence[bytes], ending_byte: int) -> None:
    """Run a connection of a plain HTTP request, which ends when its client does.

    A stream of events has no pongs for which it would be closed.
    """
    reads, how = ending_byte & 1, _BREAK if ending_byte & 2 else _EOF
    settings = _PLAIN_FROM_THE_LOG if ending_byte & 8 else _PLAIN
    in_virtual_time(lambda _clock: _run_connection(parts, reads | how << 1, settings))


def _check(data: bytes, way: bytes, *, on_open: bytes) -> None:
    parts = [on_open, *chunks(data)]
    ending_byte = way[0] if way else 0
    in_virtual_time(lambda _clock: _run_connection(parts, ending_byte))


async def _run_connection(
    parts: Sequence[bytes], ending_byte: int, settings: Settings = _SETTINGS
) -> None:
    """Send the parts to a server: its other subscriber gets all messages, and it logs no error."""
    reads, ending = ending_byte & 1, ending_byte >> 1 & 3
    async with open_scenario(settings, partitions=1) as scenario, trio.open_nursery() as nursery:
        witness = await scenario.connect()
        await witness.subscribe(channels=["*.trade"])
        stream = await scenario.dial(1 << 20 if reads else _SMALL)
        if reads:
            nursery.start_soon(_read, stream)
        nursery.start_soon(_send, stream, parts)
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
        await _check_closed(scenario)
        nursery.cancel_scope.cancel()


async def _send(stream: ClientStream, parts: Sequence[bytes]) -> None:
    with suppress(trio.BrokenResourceError):
        for part in parts:
            await stream.send_all(part)


async def _read(stream: ClientStream) -> None:
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def _check_witness(witness: ScenarioClient, records: Sequence[Record]) -> None:
    """The witness was sent every record once, in order, and nothing else."""
    messages = await witness.messages(len(records))
    assert [message["seq"] for message in messages] == list(range(1, len(records) + 1))
    assert [message["pos"] for message in messages] == [
        f"{record.partition}-{record.offset}" for record in records
    ]
    assert await witness.silence(1)


async def _check_closed(scenario: Scenario) -> None:
    """The connection is closed in time, nothing of it is left, and the server has no error."""
    server = scenario.service.server
    await trio.sleep(_MAX_SECONDS)
    assert len(server.connections) == 1
    assert len(server.handshaker.limiter) + len(server.handshaker.lingering) == 0
    assert server.stats.opened - server.stats.closed.total() == 1
    assert server.stats.errors == 0
