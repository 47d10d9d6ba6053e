"""Any interleaving of subscriptions, batches and pauses delivers the acked records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.hub import Hub
from odin_ws.records import Record
from tests.factories import record
from tests.hub.hub_driver import Client, Feeder, dispatching, make_hub
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

SLOT = 0.05

TOPICS = {"trade": "odin.trades", "social": "odin.social"}
TOKENS = ("BTC", "ETH", "a.b")
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*TOPICS, "*")]
CLIENTS = 3


@attrs.frozen
class Join:
    """A client subscribes."""

    client: int
    patterns: tuple[str, ...]


@attrs.frozen
class Part:
    """A client unsubscribes."""

    client: int
    patterns: tuple[str, ...]


@attrs.frozen
class Batch:
    """A batch comes."""

    channels: tuple[tuple[str, str, int], ...]  # token, category, partition


@attrs.frozen
class Publish(Batch):
    """The same; at its first delivery other things happen, in mid-cycle."""

    meanwhile: tuple[Join | Part | Batch, ...]


@attrs.frozen
class Pause:
    """Time passes."""

    seconds: float


changes = st.builds(
    lambda kind, client, patterns: kind(client, tuple(patterns)),
    st.sampled_from([Join, Part]),
    st.integers(0, CLIENTS - 1),
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4),
)
channels = st.lists(
    st.tuples(st.sampled_from(TOKENS), st.sampled_from(list(TOPICS)), st.integers(0, 1)),
    min_size=1,
    max_size=5,
).map(tuple)
batches = st.builds(
    Publish,
    channels,
    st.lists(changes | st.builds(Batch, channels), max_size=3).map(tuple),
)
pauses = st.builds(Pause, st.sampled_from([0.0, SLOT / 3, SLOT * 2]))


class Contract:
    """What the acknowledged positions promise each client, beside the hub that has to keep it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.clients = [Client() for _ in range(CLIENTS)]
        self.log: list[Record] = []
        self._next = dict.fromkeys([(t, p) for t in TOPICS.values() for p in (0, 1)], 0)
        # Per client and pattern: the positions it was live after, and those it ended at, if so.
        self._live: list[dict[str, dict[tuple[str, int], int]]] = [{} for _ in self.clients]
        self._promised: list[set[int]] = [set() for _ in self.clients]

    def change(self, change: Join | Part) -> None:
        """Let a client subscribe or unsubscribe, and note from or up to where."""
        subscriber = self.clients[change.client].subscriber
        live = self._live[change.client]
        if isinstance(change, Join):
            self.hub.subscribe(subscriber, change.patterns)
            for pattern in change.patterns:
                live.setdefault(pattern, self._positions())
        else:
            there = self.hub.unsubscribe(subscriber, change.patterns)
            assert there == any(pattern in live for pattern in change.patterns)
            for pattern in set(change.patterns) & live.keys():
                self._promise(change.client, pattern, live.pop(pattern))

    def append(self, publish: Batch) -> list[Record]:
        """The next records of these channels."""
        records: list[Record] = []
        for token, category, partition in publish.channels:
            place = TOPICS[category], partition
            records.append(
                record(
                    token.encode(),
                    topic=place[0],
                    partition=partition,
                    offset=self._next[place],
                    timestamp=len(self.log) + len(records),
                )
            )
            self._next[place] += 1
        self.log += records
        return records

    def check(self) -> None:
        """Each client has what it was promised, once, in the order of arrival, numbered from 1."""
        # Records are told apart by their timestamp, which is their place in the log.
        assert self._positions() == {place: end - 1 for place, end in self._next.items()}
        for number, client in enumerate(self.clients):
            for pattern, start in self._live[number].items():
                self._promise(number, pattern, start)
            received = client.messages
            assert [message["ts"] for message in received] == sorted(self._promised[number])
            assert [message["seq"] for message in received] == list(range(1, len(received) + 1))

    def _positions(self) -> dict[tuple[str, int], int]:
        positions = self.hub.stream.positions_of(TOPICS.values())
        return {
            (topic, partition): positions[topic].get(partition, -1)
            for topic, partition in self._next
        }

    def _promise(self, client: int, pattern: str, start: dict[tuple[str, int], int]) -> None:
        token, category = pattern.rsplit(".", 1)
        end = self._positions()
        for number, one in enumerate(self.log):
            place = one.topic, one.partition
            if (
                token in {"*", (one.key or b"").decode()}
                and (category == "*" or TOPICS[category] == one.topic)
                and start[place] < one.offset <= end[place]
            ):
                self._promised[client].add(number)


async def play(
    steps: Iterable[Join | Part | Publish | Pause], interval: float, tick: Callable[[], None]
) -> None:
    """Carry out the steps on a hub, and check what its clients got; each write calls `tick`."""
    hub = make_hub(interval)
    contract = Contract(hub)
    meanwhile: list[Join | Part | Batch] = []
    async with dispatching(hub) as feeder:

        def interrupt() -> None:
            tick()
            todo, meanwhile[:] = list(meanwhile), []
            for one in todo:
                if isinstance(one, Batch):
                    feeder.put(*contract.append(one))
                else:
                    contract.change(one)

        for client in contract.clients:
            client.received = interrupt  # type: ignore[method-assign]
        for step in steps:
            await carry_out(step, contract, feeder, meanwhile)
        meanwhile.clear()
        await trio.sleep(1)
        contract.check()


async def carry_out(
    step: Join | Part | Publish | Pause,
    contract: Contract,
    feeder: Feeder,
    meanwhile: list[Join | Part | Batch],
) -> None:
    """One step."""
    match step:
        case Publish():
            meanwhile[:] = step.meanwhile
            feeder.put(*contract.append(step))
        case Pause():
            await trio.sleep(step.seconds)
        case _:
            # Between two cycles: what would flush here has no part in a cycle.
            meanwhile.clear()
            contract.change(step)


@settings(max_examples=examples(150))
@given(
    st.lists(changes | batches | batches | pauses, max_size=15),
    st.sampled_from([0.0, SLOT]),
    # So long that more is read before the next one.
    st.sampled_from([0.0, 0.03]),
)
def test_any_interleaving_delivers_exactly_the_subscribed_records(
    steps: list[Join | Part | Publish | Pause], interval: float, write_seconds: float
) -> None:
    """Every record after a subscription's positions, up to its end, once and in order."""

    async def main(clock: MockClock) -> None:
        await play(steps, interval, partial(clock.jump, write_seconds))

    in_virtual_time(main)
