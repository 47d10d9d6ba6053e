"""What one delivered message costs the dispatcher, in bytecode and not in time.

A busy machine changes times and no counts, so `make test` can hold them against stored ones. The
figure is a ratio: the bytecode instructions of one more subscriber in a cycle, to those of one more
round of the barest loop that could serve it.

`make bench-hot` prints the figures, `make bench-hot ARGS=--store` stores them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import attrs
import click
import trio
import trio.testing

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Hub, Ingest, Subscriber
from odin_ws.records import Assignment, Batch, Item, Record, TopicPartition

__all__ = ["CASES", "Case", "Cost", "cost", "stored", "version"]

STORED: Final = Path(__file__).with_name("hot_path.json")

TOPIC: Final = "odin.trades"
TOKEN: Final = "BTC"  # noqa: S105 -- a currency
VALUE: Final = b'{"type":"TRADE_EXECUTED","timestamp":1767609600000,"data":{"price":"0.1"}}'

# What is the same for any number of subscribers falls out of the difference.
FEW, MANY = 200, 1200


@attrs.frozen
class Case:
    """One cycle. `records`: how many; `alike`: all subscribers have the same sequence number."""

    name: str
    records: int
    alike: bool


CASES: Final = (
    Case("one record, numbers alike", 1, alike=True),
    Case("one record, each its own number", 1, alike=False),
    Case("ten records, each its own number", 10, alike=False),
)


@attrs.frozen
class Cost:
    """For one more subscriber: instructions, calls of Python's and C's functions, each a ratio."""

    instructions: float
    calls: float


def cost(case: Case) -> Cost:
    """Count what a case costs."""
    cycle = partial(_cycle, case)
    return Cost(
        *(
            round(_for_one_more(counting, cycle) / _for_one_more(counting, _bare), 2)
            for counting in (instructions, calls)
        )
    )


def stored() -> dict[str, dict[str, dict[str, float]]]:
    """By Python's version and by case, what was stored."""
    found: dict[str, dict[str, dict[str, float]]] = json.loads(STORED.read_text())
    return found


def version() -> str:
    """Another version of Python has other instructions."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


# ---- counting


class Count:
    """A number that goes up while a block runs."""

    def __init__(self) -> None:
        self.value = 0


Counting = Callable[[], AbstractContextManager[Count]]


@contextmanager
def instructions() -> Iterator[Count]:
    """Bytecode instructions that are executed in the block."""
    count = Count()
    with _monitored(count) if sys.version_info >= (3, 12) else _traced(count):
        yield count


@contextmanager
def _monitored(count: Count) -> Iterator[None]:
    """From 3.12 on: there, tracing misses the opcodes of functions that are running already."""
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
    """Functions that are called in the block, also those in C."""
    count = Count()

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        count.value += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(before)


def _for_one_more(counting: Counting, count: Callable[[Counting, int], int]) -> float:
    """What one more subscriber adds."""
    return (count(counting, MANY) - count(counting, FEW)) / (MANY - FEW)


def _bare(counting: Counting, subscribers: int) -> int:
    """Of the loop that only calls `deliver`: what there would be if nothing had to be decided."""
    everybody = [Subscriber(_ignore) for _ in range(subscribers)]

    def loop() -> None:
        for subscriber in everybody:
            subscriber.deliver(b"")

    with counting() as count:
        loop()
    return count.value


def _cycle(case: Case, counting: Counting, subscribers: int) -> int:
    """Of a cycle, from records in the channel until all have been written to."""

    async def main() -> int:
        hub = _hub()
        for number in range(subscribers):
            subscriber = Subscriber(_ignore)
            hub.subscribe(subscriber, [f"{TOKEN}.trade"])
            # All of one length.
            subscriber.seq = 1_000_000 + (0 if case.alike else number)
        send, inbox = trio.open_memory_channel[Item](10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.run, inbox)
            send.send_nowait(Assignment({TopicPartition(TOPIC, 0): -1}))
            await trio.testing.wait_all_tasks_blocked()
            send.send_nowait(Batch(_records(case.records)))
            with counting() as count:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert hub.stats.messages_sent == subscribers * case.records
        return count.value

    # Time stands still, so that no slice of it ends.
    return trio.run(main, clock=trio.testing.MockClock())


def _hub() -> Hub:
    catalogue = default_catalogue()
    ingest = Ingest(
        catalogue, History(catalogue, 1 << 20, 60), SnapshotCache(catalogue, 1 << 20), 1 << 20
    )
    return Hub(ingest, interval=0.0, cycle_bytes=1 << 20)


def _records(count: int) -> list[Record]:
    return [Record(TOPIC, 0, offset, 0, TOKEN.encode(), VALUE) for offset in range(count)]


def _ignore(_data: bytes) -> None:
    """A socket that takes everything."""


# ---- the command


@click.command()
@click.option("--store", is_flag=True, help="Store what is counted, for the tests to hold against.")
def main(*, store: bool) -> None:
    """Count what one delivered message costs the dispatcher, against the barest loop."""
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
