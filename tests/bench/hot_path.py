"""The cost of one delivered message and one connect, in bytecode instructions instead of time.

The load of the machine changes times but no counts, so `make test` can compare the counts with
stored ones. A figure is a ratio: the instructions for one more subscriber in a cycle, or for one
more connect and its subscription, to those for one more round of a minimal loop.

`make bench-hot` prints the figures, `make bench-hot ARGS=--store` stores them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import attrs
import click
import trio
import trio.testing

from odin_ws.assembly import Upstream, build
from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Dispatcher, Hub, Ingest, Stream, Subscriber
from odin_ws.hub.subscription_options import SubscriptionOptions
from odin_ws.logs import configure_logging
from odin_ws.protocol.filters import read_filter
from odin_ws.protocol.wire_format import Frames, WireFormat, wire_format
from odin_ws.records import Assignment, Batch, Item, Record, TopicPartition
from odin_ws.settings import Settings
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.testing.ports import LOOPBACK
from tests.handshake.requests import max_header_bytes
from tests.scenarios.wire import Op, frame

__all__ = ["CASES", "TOKEN", "TOPIC", "Case", "Cost", "cost", "make_hub", "stored", "version"]

STORED: Final = Path(__file__).with_name("hot_path.json")

TOPIC: Final = "odin.trades"
TOKEN: Final = "BTC"  # noqa: S105 -- a currency
VALUE: Final = (
    b'{"type":"TRADE_EXECUTED","timestamp":1767609600000,"data":{"price":"0.1","size":7}}'
)

_HEAD: Final = max_header_bytes()
_SUBSCRIBE: Final = frame(
    Op.TEXT, b'{"type":"subscribe","data":{"channels":["%b.trade"]}}' % TOKEN.encode()
)


class Count:
    """A number that increases while a block runs."""

    def __init__(self) -> None:
        self.value = 0


Counting = Callable[[], AbstractContextManager[Count]]


@attrs.frozen
class Case:
    """Work done for each subscriber.

    Work that does not depend on the number of subscribers cancels out in the difference of `few`
    and `many`.
    """

    name: str
    count: Callable[[Counting, int], int]
    """Counts the work for a number of subscribers."""
    least: Callable[[Counting, int], int]
    """Counts the work of a minimal loop for a number of subscribers."""
    few: int = 200
    """The smaller number of subscribers."""
    many: int = 1200
    """The larger number of subscribers."""


@attrs.frozen
class Cost:
    """The cost of one more subscriber, as ratios to the minimal loop."""

    instructions: float
    """Bytecode instructions."""
    calls: float
    """Calls of functions of Python and C."""


def cost(case: Case) -> Cost:
    """Return the cost of a case."""

    def for_one_more(count: Callable[[Counting, int], int], counting: Counting) -> float:
        more = count(counting, case.many) - count(counting, case.few)
        return more / (case.many - case.few)

    return Cost(
        *(
            round(for_one_more(case.count, counting) / for_one_more(case.least, counting), 2)
            for counting in (instructions, calls)
        )
    )


def stored() -> dict[str, dict[str, dict[str, float]]]:
    """Return the stored costs by Python version and case."""
    found: dict[str, dict[str, dict[str, float]]] = json.loads(STORED.read_text())
    return found


def version() -> str:
    """Return Python's minor version; the instructions differ between versions."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


# ---- counting


@contextmanager
def instructions() -> Iterator[Count]:
    """Count the bytecode instructions of the block."""
    count = Count()
    with _monitored(count) if sys.version_info >= (3, 12) else _traced(count):
        yield count


@contextmanager
def _monitored(count: Count) -> Iterator[None]:
    """Count with sys.monitoring: from 3.12 on tracing misses functions that are already running."""
    monitoring: Any = vars(sys)["monitoring"]  # mypy also checks for 3.11
    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION

    def add(_code: CodeType, _offset: int) -> None:
        count.value += 1

    monitoring.use_tool_id(tool, "tests.bench.hot_path")
    monitoring.register_callback(tool, event, add)
    monitoring.set_events(tool, event)
    try:
        yield
    finally:
        monitoring.set_events(tool, monitoring.events.NO_EVENTS)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)


@contextmanager
def _traced(count: Count) -> Iterator[None]:
    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count.value += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def calls() -> Iterator[Count]:
    """Count the calls of functions in the block, C functions included."""
    count = Count()

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        count.value += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(before)


# ---- a cycle


def _bare(counting: Counting, subscribers: int) -> int:
    """Count a loop that only calls `deliver`."""
    everybody = [Subscriber(_ignore) for _ in range(subscribers)]

    def loop() -> None:
        for subscriber in everybody:
            subscriber.deliver(b"")

    with counting() as count:
        loop()
    return count.value


def _cycle(  # noqa: PLR0913 -- what its subscribers are like
    counting: Counting,
    subscribers: int,
    *,
    records: int,
    alike: bool,
    form: WireFormat | None = None,
    filtered: bool = False,
) -> int:
    """Count a cycle, from records in the channel until all subscribers have been written to.

    `alike`: all subscribers have the same sequence number; `form`: their wire format; `filtered`:
    each has its own filter, which no record matches.
    """

    async def main() -> int:
        hub = make_hub()
        for number in range(subscribers):
            subscriber = Subscriber(_ignore, form)
            where = {"field": "data.size", "gte": 8 + number}
            options = SubscriptionOptions.of(None, read_filter(where) if filtered else None)
            hub.subscribe(subscriber, [f"{TOKEN}.trade"], options=options)
            # All numbers have the same length.
            subscriber.seq = 1_000_000 + (0 if alike else number)
        send, inbox = trio.open_memory_channel[Item](10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Dispatcher(hub).run, inbox)
            send.send_nowait(Assignment({TopicPartition(TOPIC, 0): -1}))
            await trio.testing.wait_all_tasks_blocked()
            send.send_nowait(Batch(_records(records)))
            with counting() as count:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert hub.stats.messages_sent == (0 if filtered else subscribers * records)
        return count.value

    # The clock stands still, so no time slice ends.
    return trio.run(main, clock=trio.testing.MockClock())


def make_hub() -> Hub:
    """Return a hub without subscribers and without rates."""
    catalogue = default_catalogue()
    ingest = Ingest(
        Stream(catalogue),
        History(catalogue, 1 << 20, 60),
        SnapshotCache(catalogue, 1 << 20),
        1 << 20,
    )
    return Hub(ingest, interval=0.0, cycle_bytes=1 << 20)


def _records(count: int) -> list[Record]:
    return [Record(TOPIC, 0, offset, 0, TOKEN.encode(), VALUE) for offset in range(count)]


def _ignore(_data: bytes) -> None:
    """Accept all data, as a socket with an endless buffer."""


# ---- a connect


class _Peer:
    """A client that has sent its request and its subscription. See Transport."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self._to_send = [_SUBSCRIBE, _HEAD]

    def send_nowait(self, data: bytes | memoryview) -> int:
        self.sent.append(bytes(data))
        return len(data)

    async def wait_writable(self) -> None:
        await trio.sleep_forever()

    async def receive_now(self, _max_bytes: int) -> bytes | None:
        return self._to_send.pop() if self._to_send else None

    async def receive_some(self, _max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._to_send:
            await trio.sleep_forever()
        return self._to_send.pop()

    def unacknowledged(self) -> int:
        """Return 0: all data is acknowledged at once."""
        return 0

    def send_eof(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


_Serve = Callable[[_Peer, str], Awaitable[None]]


def _serving(open_server: Callable[[], _Serve], counting: Counting, connects: int) -> int:
    """Count serving peers, from the start of their tasks until all have their responses."""

    async def main() -> int:
        serve = open_server()
        peers = [_Peer() for _ in range(connects)]
        async with trio.open_nursery() as nursery:
            with counting() as count:
                for peer in peers:
                    nursery.start_soon(serve, peer, LOOPBACK)
                await trio.testing.wait_all_tasks_blocked()
            assert all(b"ack" in peer.sent[-1] for peer in peers)
            nursery.cancel_scope.cancel()
        return count.value

    return trio.run(main, clock=trio.testing.MockClock())


def _connects(counting: Counting, connects: int) -> int:
    """Count connects of the server."""

    def open_server() -> _Serve:
        catalogue = default_catalogue()
        log = MemoryLog(catalogue.topics)
        upstream = Upstream(MemorySource(log), MemoryLogReader(log))
        return build(Settings(), catalogue, upstream).server.serve

    return _serving(open_server, counting, connects)


def _bare_connects(counting: Counting, connects: int) -> int:
    """Count a task that only reads twice and responds twice."""

    async def serve(peer: _Peer, _address: str) -> None:
        await peer.receive_now(4096)
        peer.send_nowait(b"HTTP/1.1 101")
        while await peer.receive_some(4096):
            peer.send_nowait(b"ack")

    return _serving(lambda: serve, counting, connects)


CASES: Final = (
    Case("one record, numbers alike", partial(_cycle, records=1, alike=True), _bare),
    Case("one record, each its own number", partial(_cycle, records=1, alike=False), _bare),
    Case("ten records, each its own number", partial(_cycle, records=10, alike=False), _bare),
    Case(
        "ten records, compressed, each its own number",
        partial(_cycle, records=10, alike=False, form=wire_format(window_bits=15)),
        _bare,
    ),
    Case(
        "a compressed batch of ten, each its own number",
        partial(
            _cycle,
            records=10,
            alike=False,
            form=wire_format(frames=Frames.BATCH, window_bits=15),
        ),
        _bare,
    ),
    Case(
        "a filter that a record does not match",
        partial(_cycle, records=1, alike=True, filtered=True),
        _bare,
    ),
    Case("a connect and its subscription", _connects, _bare_connects, few=50, many=150),
)


# ---- the command


@click.command()
@click.option("--store", is_flag=True, help="Store the counts, with which the tests compare.")
def main(*, store: bool) -> None:
    """Count what one delivered message and one connect cost, compared with the simplest loop."""
    configure_logging("warning", "text")
    found = {case.name: cost(case) for case in CASES}
    before = stored().get(version(), {})
    for name, one in found.items():
        click.echo(f"{name}: {one.instructions} x the instructions, {one.calls} x the calls")
        if name in before:
            was = Cost(**before[name])
            click.echo(f"  stored: {was.instructions} x, {was.calls} x")
    if store:
        every = stored() | {version(): {name: attrs.asdict(one) for name, one in found.items()}}
        STORED.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
