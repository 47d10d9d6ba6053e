"""`python -m tests.hostile.memory`: what one connection takes of the server while it holds out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click
import psutil
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.hostile.kinds import UPGRADE
from tests.integration.serving import Server, serving
from tests.scenarios.wire import Op, frame

__all__ = ["main"]

_COUNT: Final = 1000

# Nobody is sent away while it is measured.
_SETTINGS: Final = {"WS_HEAD_TIMEOUT": "60", "WS_MESSAGE_TIMEOUT": "60"}

_HALF: Final = 32 << 10

# As far as each may go before the defaults send it away.
_STATES: Final[Mapping[str, bytes]] = {
    "says nothing": b"",
    "a head of 16 KiB without its end": UPGRADE[:-2] + b"X: " + b"x" * (15 << 10),
    "upgraded, nothing more": UPGRADE,
    "half a command of 64 KiB": UPGRADE + frame(Op.TEXT, b" " * (64 << 10))[:-1],
    "the same in characters of 4 bytes": UPGRADE
    + frame(Op.TEXT, "\U0001f600".encode() * (16 << 10))[:-1],
}


async def _hold(server: Server, sent: bytes) -> float:
    """Bytes of the server for each of many connections that have sent that."""
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    async with trio.open_nursery() as nursery:
        streams = [await trio.open_tcp_stream(LOOPBACK, server.port) for _ in range(_COUNT)]
        for stream in streams:
            nursery.start_soon(stream.send_all, sent)
    await trio.sleep(3)
    found = (process.memory_info().rss - before) / _COUNT
    for stream in streams:
        await stream.aclose()
    return found


async def _run() -> None:
    for name, sent in _STATES.items():
        # One server each: what was freed once is used again.
        async with serving(f"{LOOPBACK}:1", _SETTINGS, ready=False) as server:
            click.echo(f"{name}: {await _hold(server, sent) / 1024:.1f} KiB")


def main() -> None:
    """Measure them."""
    trio.run(_run)


if __name__ == "__main__":
    main()
