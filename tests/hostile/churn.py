"""`make hostile ARGS="--churn 200000"`: connections that come and go leave nothing behind."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

import attrs
import psutil
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.hostile.kinds import CLOSE, UPGRADE, Visit, command, listen, vanishing
from tests.integration.servers import Server

__all__ = ["Churn", "ChurnStand", "churn", "report_churn"]

# The first tenth fills pools, caches and arenas; from there on memory has to stay.
_FIRST_SHARE: Final = 0.1
_MOST_GROWTH: Final = 0.03

# As many as a busy load balancer opens at once.
_AT_ONCE: Final = 64

# For the last connections to end, and for freed memory to be given back.
_REST_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 60.0

_RESET: Final = struct.pack("ii", 1, 0)
_COMMON: Final = command("subscribe", channels=["*.trade", "BTC.social"])
_numbers: Final = count()


@attrs.frozen
class ChurnStand:
    """The server at rest after so many connections."""

    visits: int
    rss: int
    descriptors: int
    connections: int


@attrs.frozen
class Churn:
    """What a churn run came to. `log`: all that the server printed."""

    first: ChurnStand
    last: ChurnStand
    seconds: float
    upgraded: int
    log: str

    @property
    def growth(self) -> float:
        """Of resident memory, from the first tenth to the end."""
        return self.last.rss / self.first.rss - 1

    @property
    def broken(self) -> list[str]:
        """The promises that were."""
        found = []
        if self.growth > _MOST_GROWTH:
            found.append(f"memory has grown by {self.growth:.1%}")
        if self.last.connections:
            found.append(f"{self.last.connections} connections are left")
        if self.last.descriptors > self.first.descriptors:
            found.append(f"{self.last.descriptors - self.first.descriptors} descriptors are left")
        if not self.upgraded:
            found.append("nobody was let in")
        if "Traceback (most recent call last)" in self.log or '"exception":' in self.log:
            found.append("there is a traceback in the log")
        return found


def report_churn(churned: Churn) -> Iterator[str]:
    """The figures, as lines."""
    for one in (churned.first, churned.last):
        yield (
            f"after {one.visits:9,} connections: {one.rss / 1e6:.1f} MB, "
            f"{one.descriptors} descriptors, {one.connections} connections left"
        )
    rate = churned.last.visits / churned.seconds
    yield f"memory {churned.growth:+.1%}; {churned.upgraded:,} upgraded; {rate:.0f} a second"


async def _tidy(stream: trio.SocketStream) -> None:
    """Subscribes as most do, and closes."""
    await stream.send_all(UPGRADE + _COMMON + CLOSE)
    await listen(stream)


async def _with_own_names(stream: trio.SocketStream) -> None:
    """Subscribes to what nobody else wants, and closes."""
    number = next(_numbers)
    names = [f"{number}-{one}.trade" for one in range(20)]
    await stream.send_all(UPGRADE + command("subscribe", channels=names) + CLOSE)
    await listen(stream)


async def _reset(stream: trio.SocketStream) -> None:
    """Subscribes, and is gone without a close."""
    await stream.send_all(UPGRADE + _COMMON)
    await stream.receive_some(1000)


_VISITS: Final[Sequence[Visit]] = (_tidy, _tidy, _with_own_names, _reset, vanishing)


async def churn(server: Server, visits: int) -> Churn:
    """Connect and disconnect so often; look at the server after a tenth and at the end."""
    process = psutil.Process(server.process.pid)
    started = trio.current_time()
    early = max(1, round(visits * _FIRST_SHARE))
    await _visit(server.port, early)
    first = await _stand(server, process, early)
    await _visit(server.port, visits - early)
    seconds = trio.current_time() - started
    last = await _stand(server, process, visits)
    upgraded = int(await server.metric("ws_connections_total"))
    return Churn(first, last, seconds, upgraded, server.output)


async def _visit(port: int, visits: int) -> None:
    left = iter(range(visits))

    async def come_and_go() -> None:
        for _ in left:
            visit = random.choice(_VISITS)  # noqa: S311 -- no secret
            try:
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    # Without it the closed connections would use up the ports of this machine.
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    await visit(stream)
            except (OSError, trio.BrokenResourceError):
                pass  # sent away for a moment: the next one comes

    async with trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(come_and_go)


async def _stand(server: Server, process: psutil.Process, visits: int) -> ChurnStand:
    connections = 0
    with trio.move_on_after(_PATIENCE_SECONDS):
        while connections := int(await server.metric("ws_connections_active")):  # noqa: ASYNC110
            await trio.sleep(0.5)
    await trio.sleep(_REST_SECONDS)
    return ChurnStand(visits, process.memory_info().rss, process.num_fds(), connections)
