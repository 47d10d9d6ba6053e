"""`make hostile ARGS="--names 399"`: clients with the maximum of subscriptions, twice.

The server has little memory. It must stay within its limit, and accept clients again once they
left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import attrs
import psutil
import trio

from odin_ws.testing.ports import LOOPBACK
from tests.hostile.kinds import UPGRADE, listen, own_subscriptions
from tests.integration.servers import Server

__all__ = ["SETTINGS", "Names", "NamesState", "report_names", "subscribe_names"]

LIMIT: Final = 150_000_000
SETTINGS: Final = {
    "WS_MEMORY_LIMIT": str(LIMIT),
    # 1,024 names of the greatest length.
    "WS_MAX_SUBSCRIPTION_BYTES": str(1024 * 128),
}

# Memory is estimated between two measurements; the estimate may miss this share.
_MAX_OVER: Final = 0.1
_MAX_SECONDS: Final = 5.0

_HOLD_SECONDS: Final = 5.0
_SAMPLE_SECONDS: Final = 0.2
_PATIENCE_SECONDS: Final = 60.0


@attrs.frozen
class NamesState:
    """One of the two rounds.

    `rss`: the peak. `seconds`: from the last disconnection to the first accepted client.
    """

    rss: int
    connections: int
    patterns: int
    not_available: int
    seconds: float


@attrs.frozen
class Names:
    """Both rounds. `before`: resident memory at the start. `log`: all that the server printed."""

    before: int
    states: Sequence[NamesState]
    log: str

    @property
    def broken(self) -> list[str]:
        """A sentence for each broken promise."""
        found = []
        for number, one in enumerate(self.states, 1):
            if one.rss > (1 + _MAX_OVER) * LIMIT:
                found.append(f"time {number}: {one.rss / 1e6:.1f} MB of {LIMIT / 1e6:.0f}")
            if one.seconds > _MAX_SECONDS:
                found.append(f"time {number}: newcomers wait for {one.seconds:.1f} s")
            if not one.patterns:
                found.append(f"time {number}: nobody could subscribe")
        if "Traceback (most recent call last)" in self.log or '"exception":' in self.log:
            found.append("there is a traceback in the log")
        return found


def report_names(names: Names) -> Iterator[str]:
    """The figures, as lines."""
    yield f"before: {names.before / 1e6:.1f} MB; the limit is {LIMIT / 1e6:.0f} MB"
    for state in names.states:
        yield (
            f"at most {state.rss / 1e6:.1f} MB, {state.connections} connections, "
            f"{state.patterns:,} patterns, {state.not_available:,} times NOT_AVAILABLE; "
            f"newcomers after {state.seconds:.1f} s"
        )


async def subscribe_names(server: Server, clients: int) -> Names:
    """Hold `clients` connections with their subscriptions, twice."""
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    states = [await _once(server, process, clients) for _ in range(2)]
    return Names(before, states, server.output)


async def _once(server: Server, process: psutil.Process, clients: int) -> NamesState:
    maximum = 0
    rejected = int(await server.metric("ws_commands_rejected_total", code="NOT_AVAILABLE"))

    async def watch() -> None:
        nonlocal maximum
        while True:
            maximum = max(maximum, process.memory_info().rss)
            await trio.sleep(_SAMPLE_SECONDS)

    waiting, all_sent = clients, trio.Event()

    async def hold(data: bytes) -> None:
        nonlocal waiting
        # The server closes some at the memory limit, a few before they have sent everything.
        with suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_tcp_stream(LOOPBACK, server.port) as stream:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(data)
                waiting -= 1
                if not waiting:
                    all_sent.set()
                await listen(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        for _ in range(clients):
            nursery.start_soon(hold, UPGRADE + own_subscriptions())
            await trio.lowlevel.checkpoint()
        with trio.move_on_after(_PATIENCE_SECONDS):
            await all_sent.wait()
        await _wait_until_at_rest(process)
        await trio.sleep(_HOLD_SECONDS)
        connections = int(await server.metric("ws_connections_active"))
        patterns = int(await server.metric("ws_subscribed_patterns"))
        now_rejected = int(await server.metric("ws_commands_rejected_total", code="NOT_AVAILABLE"))
        nursery.cancel_scope.cancel()
    seconds = await _seconds_until_accepted(server)
    return NamesState(maximum, connections, patterns, now_rejected - rejected, seconds)


async def _wait_until_at_rest(process: psutil.Process) -> None:
    used = -1.0
    while (now := process.cpu_times().user) - used > 0.1:
        used = now
        await trio.sleep(1)


async def _seconds_until_accepted(server: Server) -> float:
    started = trio.current_time()
    with trio.move_on_after(_PATIENCE_SECONDS):
        while True:
            async with await trio.open_tcp_stream(LOOPBACK, server.port) as stream:
                await stream.send_all(UPGRADE)
                if (await stream.receive_some(100)).startswith(b"HTTP/1.1 101"):
                    break
                await listen(stream)
            await trio.sleep(0.1)
    return trio.current_time() - started
