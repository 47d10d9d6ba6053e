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

__all__ = ["Churn", "ChurnState", "churn", "report_churn"]

# The first tenth fills pools, caches and arenas; after it, memory must stay.
_FIRST_SHARE: Final = 0.1
_MAX_GROWTH: Final = 0.03

# A busy load balancer opens this many connections at once.
_AT_ONCE: Final = 64

# Time for the last connections to end, and for freed memory to be given back.
_REST_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 60.0

_RESET: Final = struct.pack("ii", 1, 0)
_COMMON: Final = command("subscribe", channels=["*.trade", "BTC.social"])
_numbers: Final = count()


@attrs.frozen
class ChurnState:
    """The server at rest after `visits` connections."""

    visits: int
    rss: int
    descriptors: int
    connections: int


@attrs.frozen
class Churn:
    """Outcome of a churn run. `log`: everything that the server printed."""

    first: ChurnState
    last: ChurnState
    seconds: float
    upgraded: int
    log: str

    @property
    def growth(self) -> float:
        """Growth of resident memory from the first tenth of the visits to the last."""
        return self.last.rss / self.first.rss - 1

    @property
    def broken(self) -> list[str]:
        """A sentence for each broken promise."""
        found = []
        if self.growth > _MAX_GROWTH:
            found.append(f"memory has grown by {self.growth:.1%}")
        if self.last.connections:
            found.append(f"{self.last.connections} connections are left")
        if self.last.descriptors > self.first.descriptors:
            found.append(f"{self.last.descriptors - self.first.descriptors} descriptors are left")
        if not self.upgraded:
            found.append("no client was upgraded")
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
    """Subscribe to common channels, and close."""
    await stream.send_all(UPGRADE + _COMMON + CLOSE)
    await listen(stream)


async def _with_own_names(stream: trio.SocketStream) -> None:
    """Subscribe to channels that no other client has, and close."""
    number = next(_numbers)
    names = [f"{number}-{one}.trade" for one in range(20)]
    await stream.send_all(UPGRADE + command("subscribe", channels=names) + CLOSE)
    await listen(stream)


async def _reset(stream: trio.SocketStream) -> None:
    """Subscribe, and reset the connection without a close frame."""
    await stream.send_all(UPGRADE + _COMMON)
    await stream.receive_some(1000)


_VISITS: Final[Sequence[Visit]] = (_tidy, _tidy, _with_own_names, _reset, vanishing)


async def churn(server: Server, visits: int) -> Churn:
    """Make `visits` connections; measure the server after a tenth of them and at the end."""
    process = psutil.Process(server.process.pid)
    started = trio.current_time()
    early = max(1, round(visits * _FIRST_SHARE))
    await _visit(server.port, early)
    first = await _state_at_rest(server, process, early)
    await _visit(server.port, visits - early)
    seconds = trio.current_time() - started
    last = await _state_at_rest(server, process, visits)
    upgraded = int(await server.metric("ws_connections_total"))
    return Churn(first, last, seconds, upgraded, server.output)


async def _visit(port: int, visits: int) -> None:
    left = iter(range(visits))

    async def visit_in_turn() -> None:
        for _ in left:
            visit = random.choice(_VISITS)  # noqa: S311 -- no secret
            try:
                async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
                    # Without a reset, closed connections in TIME_WAIT would use up the ports of
                    # this machine.
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    await visit(stream)
            except (OSError, trio.BrokenResourceError):
                pass  # the server rejects a connection now and then: the next one follows

    async with trio.open_nursery() as nursery:
        for _ in range(_AT_ONCE):
            nursery.start_soon(visit_in_turn)


async def _state_at_rest(server: Server, process: psutil.Process, visits: int) -> ChurnState:
    connections = 0
    with trio.move_on_after(_PATIENCE_SECONDS):
        while connections := int(await server.metric("ws_connections_active")):  # noqa: ASYNC110
            await trio.sleep(0.5)
    await trio.sleep(_REST_SECONDS)
    return ChurnState(visits, process.memory_info().rss, process.num_fds(), connections)
