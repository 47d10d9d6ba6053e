"""The cost of one delivered message and one connect, in bytecode instructions instead of time.

The load of the machine changes times but no counts, so `make test` can compare the counts with
stored ones. A figure is a ratio: the instructions for one more subscriber in a cycle, or for one
more connect and its subscription, to those for one more round of a minimal loop.

`make bench-hot` prints the figures, `make bench-hot ARGS=--store` stores them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import click
import trio
import trio.testing

from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, SnapshotCache
from odin_ws.hub import Dispatcher, Hub, Ingest, Stream, Subscriber
from odin_ws.hub.subscription_options import SubscriptionOptions
from odin_ws.logs import configure_logging
from odin_ws.protocol.filters import read_filter
from odin_ws.protocol.wire_format import Frames, WireFormat, wire_format
from odin_ws.records import Assignment, Batch, Item, Record, TopicPartition
from tests.bench.counting import Counting, calls, instructions
from tests.bench.way_in import bare_connects, connects, resumes

__all__ = ["CASES", "TOKEN", "TOPIC", "Case", "Cost", "cost", "make_hub", "stored", "version"]

STORED: Final = Path(__file__).with_name("hot_path.json")

TOPIC: Final = "odin.trades"
TOKEN: Final = "BTC"  # noqa: S105 -- a currency
VALUE: Final = (
    b'{"type":"TRADE_EXECUTED","timestamp":1767609600000,"data":{"price":"0.1","size":7}}'
)


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
    Case("a connect and its subscription", connects, bare_connects, few=50, many=150),
    Case("a connect that resumes 96 partitions", resumes, bare_connects, few=20, many=60),
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
