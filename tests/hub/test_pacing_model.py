"""Any interleaving of subscriptions with and without options, against a naive model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.hub import Hub, SubscriptionOptions
from odin_ws.pattern import Pattern
from odin_ws.protocol.filters import read_filter
from odin_ws.protocol.wire_format import Frames, wire_format
from odin_ws.records import Record
from tests.factories import record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hypothesis_examples import examples
from tests.virtual_time import in_virtual_time

TOPICS: Final = {"trade": "odin.trades", "social": "odin.social"}
TOKENS: Final = ("BTC", "ETH")
PATTERNS: Final = [f"{token}.{kind}" for token in (*TOKENS, "*") for kind in (*TOPICS, "*")]
RATES: Final = (None, 0.5, 1.0, 4.0)
SIZES: Final = ("1", "1500.2")
LARGE: Final = read_filter({"field": "size", "gte": 1000})
SMALL: Final = read_filter({"field": "size", "lt": 1000})
FILTERS: Final = {None: None, True: LARGE, False: SMALL}

# A slot, and what the release may be early by (hub/pacing.py).
SLOT: Final = 0.05
EARLY: Final = 0.002


@attrs.frozen
class Join:
    """A client subscribes, at a rate or without one, to all records, the large or the small."""

    client: int
    pattern: str
    max_rate: float | None
    large: bool | None = None


@attrs.frozen
class Part:
    """A client unsubscribes."""

    client: int
    pattern: str


@attrs.frozen
class Publish:
    """Records come."""

    channels: tuple[tuple[str, str, int, str], ...]


@attrs.frozen
class Pause:
    """Time passes."""

    seconds: float


clients = st.integers(0, 1)
joins = st.builds(
    Join, clients, st.sampled_from(PATTERNS), st.sampled_from(RATES), st.sampled_from(list(FILTERS))
)
parts = st.builds(Part, clients, st.sampled_from(PATTERNS))
batches = st.builds(
    Publish,
    st.lists(
        st.tuples(
            st.sampled_from(TOKENS),
            st.sampled_from(list(TOPICS)),
            st.integers(0, 1),
            st.sampled_from(SIZES),
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
)
pauses = st.builds(Pause, st.sampled_from([0.02, 0.1, 0.3, 1.3]))
steps = joins | parts
busy = batches | batches | pauses | pauses | joins | parts


class Model(Client):
    """A client, and what it may expect."""

    def __init__(self, hub: Hub, frames: Frames) -> None:
        super().__init__(wire_format(frames=frames))
        self.hub = hub
        self.joined: dict[str, Join] = {}
        self.wanted: list[Record] = []
        """What the hub took while it was subscribed."""
        self.changed_at = 0.0
        self.arrivals: list[tuple[float, float, dict[str, Any]]] = []
        """Each message with its time, and the time of the last change of the subscriptions."""
        self.kept: dict[tuple[str, int], int] = {}
        """Its positions, by the algorithm of docs/protocol.md."""

    def received(self) -> None:
        """Keep positions after each write, and compare them with what is held back."""
        news = [one for item in self.messages for one in unbatched(item)][len(self.arrivals) :]
        now = trio.current_time()
        for one in news:
            self.arrivals.append((now, self.changed_at, one))
            if not one.get("ahead"):
                key, offset = place(one)
                self.kept[key] = max(offset, self.kept.get(key, -1))
            self.check_positions()

    def acknowledged(self) -> None:
        """Its subscriptions have changed, and the ack has the hub's positions."""
        self.changed_at = trio.current_time()
        for topic, partitions in self.hub.stream.positions_of(TOPICS.values()).items():
            self.kept |= {(topic, partition): offset for partition, offset in partitions.items()}
        self.check_positions()

    def matching(self, channel: str) -> list[Join]:
        """The subscriptions that match a channel."""
        token, kind = channel.rsplit(".", 1)
        joined = self.joined.values()
        return [one for one in joined if Pattern.parse(one.pattern).matches(token, kind)]

    def rate(self, channel: str) -> float | None:
        """The highest rate of a channel; None if it comes whole, or by several filters."""
        matching = self.matching(channel)
        rates = {one.max_rate for one in matching}
        if None in rates or len({one.large for one in matching}) > 1:
            return None
        return max(rate for rate in rates if rate is not None)

    def wants(self, one: Record) -> bool:
        """Whether a subscription brings a record."""
        is_large = one.value is not None and SIZES[1].encode() in one.value
        return any(joined.large in {None, is_large} for joined in self.matching(channel_of(one)))

    def check_positions(self) -> None:
        """Of no channel the newest record is passed that was not sent."""
        sent = {place(one) for _, _, one in self.arrivals}
        newest: dict[str, Record] = {}
        for one in self.wanted:
            if one.offset <= self.hub.stream.positions_of([one.topic])[one.topic].get(
                one.partition, -1
            ):
                newest[channel_of(one)] = one
        for one in newest.values():
            key = one.topic, one.partition
            assert (key, one.offset) in sent or self.kept.get(key, -1) < one.offset

    def check(self) -> None:
        """All numbers are accounted for, nobody came too often, and the newest of all came."""
        number = 0
        for _, _, one in self.arrivals:
            number += one.get("skipped", 0) + 1
            assert one["seq"] == number
        assert number == len(self.wanted)
        sent = [place(one) for _, _, one in self.arrivals]
        assert len(sent) == len(set(sent))
        assert set(sent) <= {
            ((record.topic, record.partition), record.offset) for record in self.wanted
        }
        newest = {channel_of(one): one for one in self.wanted}
        assert {
            ((record.topic, record.partition), record.offset) for record in newest.values()
        } <= set(sent)

    def check_rates(self) -> None:
        """Between two changes of the subscriptions no channel came faster than at its rate."""
        last: dict[tuple[float, str], float] = defaultdict(lambda: -100.0)
        for at, changed, one in self.arrivals:
            rate = self.rate(one["channel"]) if changed == self.changed_at else None
            if rate is not None:
                key = changed, one["channel"]
                assert at - last[key] >= 1 / rate - EARLY, (at, last[key], one)
                last[key] = at


def unbatched(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a frame, each with its number and what is said of it."""
    if item.get("type") != "batch":
        return [item]
    found = [
        {**one, "seq": seq, "ahead": item.get("ahead", False)}
        for seq, one in enumerate(item["messages"], item["seq"])
    ]
    found[0]["skipped"] = item.get("skipped", 0)
    return found


def channel_of(one: Record) -> str:
    """The channel of a record."""
    kind = next(kind for kind, topic in TOPICS.items() if topic == one.topic)
    return f"{(one.key or b'').decode()}.{kind}"


def place(one: dict[str, Any]) -> tuple[tuple[str, int], int]:
    """Topic, partition and offset of a message."""
    partition, offset = map(int, one["pos"].split("-"))
    return (TOPICS[one["channel"].rsplit(".", 1)[1]], partition), offset


async def play(todo: Iterable[Join | Part | Publish | Pause], interval: float) -> None:
    """Carry out the steps, then wait for what is held back."""
    hub = make_hub(interval)
    models = [Model(hub, frames) for frames in Frames]
    following: dict[tuple[str, int], int] = defaultdict(int)
    async with dispatching(hub) as feeder:
        for step in todo:
            match step:
                case Join():
                    await trio.sleep(SLOT)
                    model = models[step.client]
                    model.joined[step.pattern] = step
                    where = FILTERS[step.large]
                    shared = None if where is None else hub.filters.share(where)
                    options = SubscriptionOptions.of(step.max_rate, shared)
                    hub.subscribe(model.subscriber, [step.pattern], options=options)
                    model.acknowledged()
                case Part():
                    await trio.sleep(SLOT)
                    model = models[step.client]
                    hub.unsubscribe(model.subscriber, [step.pattern])
                    model.joined.pop(step.pattern, None)
                    model.acknowledged()
                case Publish():
                    for token, kind, partition, size in step.channels:
                        key = TOPICS[kind], partition
                        one = record(
                            token.encode(),
                            b'{"type":"","size":"%b"}' % size.encode(),
                            topic=key[0],
                            partition=partition,
                            offset=following[key],
                        )
                        following[key] += 1
                        for model in models:
                            if model.wants(one):
                                model.wanted.append(one)
                        feeder.put(one)
                case Pause():
                    await trio.sleep(step.seconds)
        await trio.sleep(5)
    for model in models:
        model.check()
        model.check_rates()


@settings(max_examples=examples(200))
@given(st.lists(steps, max_size=6), st.lists(busy, max_size=40), st.sampled_from([0.0, SLOT]))
def test_any_interleaving_keeps_rates_numbers_and_positions(
    first: list[Join | Part | Publish | Pause],
    todo: list[Join | Part | Publish | Pause],
    interval: float,
) -> None:
    """At most n a second and channel, the newest is never lost, skipped sums are right.

    At no moment a client's position has passed the newest message of a channel that it was not
    sent: whoever is cut off then and resumes gets it.
    """

    async def main(_clock: MockClock) -> None:
        # Rare among random ones: with and without a rate in one topic, or in one channel.
        mixed = [
            Join(0, "BTC.trade", None),
            Join(0, "*.trade", 0.5),
            Join(1, "*.social", None, large=True),
            Join(1, "BTC.social", 1.0),
        ]
        await play([*mixed, *first, *todo], interval)

    in_virtual_time(main)
