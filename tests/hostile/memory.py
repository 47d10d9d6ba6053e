"""`python -m tests.hostile.memory`: measures the server's memory per hostile connection."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import click
import psutil
import trio

from odin_ws.testing.ports import LOOPBACK
from tests import signals
from tests.hostile.kinds import UPGRADE
from tests.integration.servers import Server, serving
from tests.scenarios.wire import Op, frame

__all__ = ["main"]

_COUNT: Final = 1000

# The names of one connection.
_NAMES: Final = 1024

# Limit of the time until all names of all connections are subscribed to, on a busy machine.
_SUBSCRIBE_SECONDS: Final = 900

# CPU seconds per second of a server at rest.
_AT_REST: Final = 0.05

# No connection is closed while it is measured, and 1,024 names of 128 bytes are accepted.
_SETTINGS: Final = {
    "WS_HANDSHAKE_TIMEOUT_SECONDS": "60",
    "WS_MESSAGE_TIMEOUT_SECONDS": "900",
    "WS_MAX_SUBSCRIPTION_BYTES": f"{256 << 10}",
    # 1,024 such names are commands of 140 KiB, which the default burst rejects in part.
    "WS_COMMAND_BURST": "1000",
    "WS_PONG_TIMEOUT_SECONDS": "600",
}


def _subscriptions(length: int, number: int) -> bytes:
    """Upgrade and subscribe to 1,024 names of `length` bytes; the number makes them unique."""
    commands = b""
    for begin in range(0, _NAMES, 256):
        names = [f"{number:05}{at:05}".ljust(length, "x") for at in range(begin, begin + 256)]
        data = {"channels": [f"{name}.trade" for name in names]}
        commands += frame(Op.TEXT, json.dumps({"type": "subscribe", "data": data}).encode())
    return UPGRADE + commands


# The most that each kind may send before the default limits close it, by connection number.
_STATES: Final[Mapping[str, Callable[[int], bytes]]] = {
    "says nothing": lambda _: b"",
    "a head of 16 KiB without its end": lambda _: UPGRADE[:-2] + b"X: " + b"x" * (15 << 10),
    "upgraded, nothing more": lambda _: UPGRADE,
    "half a command of 64 KiB": lambda _: UPGRADE + frame(Op.TEXT, b" " * (64 << 10))[:-1],
    "the same in characters of 4 bytes": lambda _: (
        UPGRADE + frame(Op.TEXT, "\U0001f600".encode() * (16 << 10))[:-1]
    ),
    "1,024 subscriptions of 10 bytes": partial(_subscriptions, 10),
    "1,024 subscriptions of 128 bytes": partial(_subscriptions, 128),
    "1,024 subscriptions of 60 bytes that others have as well": lambda _: _subscriptions(60, 0),
}


# The patterns that they have together, by state.
_PATTERNS: Final[Mapping[str, int]] = {
    "1,024 subscriptions of 10 bytes": _COUNT * _NAMES,
    "1,024 subscriptions of 128 bytes": _COUNT * _NAMES,
    "1,024 subscriptions of 60 bytes that others have as well": _NAMES,
}


async def _hold(server: Server, sent: Callable[[int], bytes], patterns: int) -> float:
    """Return the server's bytes per connection with 1,000 connections that have sent this.

    `patterns`: those that the server has then.
    """
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    async with trio.open_nursery() as nursery:
        streams = [await trio.open_tcp_stream(LOOPBACK, server.port) for _ in range(_COUNT)]
        for number, stream in enumerate(streams):
            nursery.start_soon(stream.send_all, sent(number))
    # A server that gets little CPU looks as if it were at rest.
    with trio.fail_after(_SUBSCRIBE_SECONDS):
        while await server.metric("ws_subscribed_patterns") < patterns:  # noqa: ASYNC110 -- of another process
            await trio.sleep(1)
    await _wait_until_at_rest(process)
    found = (process.memory_info().rss - before) / _COUNT
    for stream in streams:
        await stream.aclose()
    return found


async def _wait_until_at_rest(process: psutil.Process) -> None:
    """Wait until the server uses next to no CPU for a second; it goes on looking for Kafka."""
    before = -math.inf
    while (now := process.cpu_times().user) - before > _AT_REST:
        before = now
        await trio.sleep(1)


async def _run() -> None:
    for name, sent in _STATES.items():
        # A server for each state: a reused one would reuse freed memory.
        async with serving(f"{LOOPBACK}:1", _SETTINGS, ready=False) as server:
            held = await _hold(server, sent, _PATTERNS.get(name, 0))
            click.echo(f"{name}: {held / 1024:.1f} KiB")
            # Otherwise the figure would be of fewer subscriptions than its name says.
            if await server.metric("ws_commands_rejected_total", code="RATE_LIMIT_EXCEEDED"):
                raise click.ClickException(f"{name}: commands were rejected")


def main() -> None:
    """Measure every state."""
    signals.run(_run)


if __name__ == "__main__":
    main()
