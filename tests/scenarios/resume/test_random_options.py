"""Random actions with clients of each kind: rates, filters, batches, `latest`, event streams."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from odin_ws.pattern import channel_name
from odin_ws.records import Record, TopicPartition
from odin_ws.testing.assertions import assert_offsets, offsets_of
from odin_ws.testing.follower import Follower, key_of
from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource
from tests.hypothesis_examples import examples
from tests.scenarios.resume.test_random_actions import (
    PATTERNS,
    Action,
    BreakOff,
    Connect,
    Crash,
    Pause,
    Publish,
    SetBroker,
    SetLogReader,
    actions,
    play,
    retentions,
)

# The value of a record that meets the filter: the others are longer.
SHORT = b'{"x":""}'

CATEGORIES = {"odin.trades": "trade", "odin.social": "social"}


@attrs.frozen
class Options:
    """The options of a client's subscription."""

    max_rate: float | None = None
    delivery: str | None = None
    frames: str | None = None
    where: dict[str, Any] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its commands."""
        return {name: one for name, one in attrs.asdict(self).items() if one is not None}

    @property
    def is_whole(self) -> bool:
        """Whether no message is skipped."""
        return self.max_rate is None and self.delivery is None


class OptionsFollower(Follower):
    """A follower with options. It accounts for every sequence number."""

    def __init__(self, *channels: str, options: Options) -> None:
        super().__init__(*channels)
        self.options = options
        self.seq = 0

    async def connect(
        self, nursery: trio.Nursery, scenario: Scenario, *, capacity: int = 1 << 20, **data: Any
    ) -> None:
        """Connect with the options."""
        self.seq = 0
        more = {**data, **self.options.fields}
        await super().connect(nursery, scenario, capacity=capacity, **more)

    def take(self, item: dict[str, Any]) -> None:
        """Take the messages of a batch one by one."""
        if item["type"] != "batch":
            self._take(item)
            return
        marks: dict[str, Any] = {
            name: item[name] for name in ("replay", "ahead", "skipped") if name in item
        }
        for seq, message in enumerate(item["messages"], item["seq"]):
            self._take({"type": "message", "seq": seq, **marks, **message})
            marks.pop("skipped", None)

    def _take(self, item: dict[str, Any]) -> None:
        if "seq" in item:
            self.seq += item.get("skipped", 0) + 1
            assert item["seq"] == self.seq
            # With one rate no message overtakes another one.
            assert "ahead" not in item
        super().take(item)

    def check(self, records: Collection[Record]) -> None:
        """Assert that all that it wants came once and in order, or at least the newest of it."""
        got = offsets_of(self.messages)
        wanted = self._wanted(records)
        expected: dict[TopicPartition, list[int]] = {}
        newest: dict[str, Record] = {}
        for one in wanted:
            if self.options.is_whole or one.offset in got.get(key_of(one), ()):
                expected.setdefault(key_of(one), []).append(one.offset)
            newest[channel_name((one.key or b"").decode(), CATEGORIES[one.topic])] = one
        assert_offsets(got, expected)
        for one in newest.values():
            assert one.offset in got.get(key_of(one), ()), one

    def _wanted(self, records: Collection[Record]) -> list[Record]:
        places = {place for interest in self.interests for place in interest.offsets(records)}
        return [
            record
            for record in records
            if (key_of(record), record.offset) in places
            and (self.options.where is None or record.value == SHORT)
        ]


class EventFollower(OptionsFollower):
    """The same over Server-Sent Events: it resumes with the id of its last whole event."""

    def __init__(self, *channels: str, options: Options) -> None:
        super().__init__(*channels, options=options)
        self._last_event_id = ""
        self._source: EventSource | None = None

    async def connect(
        self, nursery: trio.Nursery, scenario: Scenario, *, capacity: int = 1 << 20, **_data: Any
    ) -> None:
        """Open a stream, and read it in a task of the nursery."""
        self.items, self.live, self.seq = [], False, 0
        self._closed, self._ended = None, trio.Event()
        query = {"channels": ",".join(self.channels), **self.options.fields}
        if self.options.where is not None:
            query["where"] = json.dumps(self.options.where)
        source = self._source = await EventSource.open(
            scenario, query, last_event_id=self._last_event_id, capacity=capacity
        )
        assert source.status == 200, source.content
        nursery.start_soon(self._read_stream, source)

    def break_off(self) -> None:
        """End the connection as a network does."""
        source, self._source = self._source, None
        if source is not None:
            source.stream.break_off()
            self._close(1006, "")

    async def _read_stream(self, source: EventSource) -> None:
        while True:
            try:
                event = await source.event()
            except (AssertionError, trio.BrokenResourceError):
                # The stream has ended.
                if source is self._source:
                    self._close(1006, "")
                return
            if source is not self._source:
                return
            self.take(event.json)
            self._last_event_id = event.last_event_id
            await trio.sleep(self.pause)


kinds = st.builds(
    Options,
    st.sampled_from([None, None, 0.5, 5.0]),
    st.sampled_from([None, None, "latest"]),
    st.sampled_from([None, "batch"]),
    st.sampled_from([None, None, {"field": "x", "eq": ""}]),
)
names = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True)
kinds_of_clients = st.sampled_from([OptionsFollower, EventFollower])
clients = st.lists(st.tuples(kinds_of_clients, names, kinds), min_size=3, max_size=3)
faults = actions.filter(
    lambda one: isinstance(one, Connect | BreakOff | Crash | SetBroker | SetLogReader)
)
traffic = actions.filter(lambda one: isinstance(one, Publish | Pause))

CONNECTS = [Connect(client, client % 2, capacity=1 << 20, pause=0.0) for client in range(3)]
TRADES = Publish((("BTC", "trade", 0), ("ETH", "trade", 0)), 0)


@given(clients, retentions, st.lists(traffic | faults, max_size=25))
@example(
    # Clients that are cut off while a rate holds back the newest message.
    [
        (OptionsFollower, ["*.trade"], Options(max_rate=0.5)),
        (EventFollower, ["*.trade"], Options(max_rate=0.5, frames="batch")),
        (EventFollower, ["BTC.*"], Options(max_rate=0.5, delivery="latest")),
    ],
    (0, 0),
    [TRADES, Pause(0.06), TRADES, *[Pause(0.7)] * 2, *map(BreakOff, range(3))],
)
@settings(max_examples=examples(40))
def test_each_client_gets_what_its_options_promise(
    clients: list[tuple[type[OptionsFollower], list[str], Options]],
    retained: tuple[int, ...],
    plan: list[Action],
) -> None:
    """Every record once; with a rate or `latest` at least the newest of each channel.

    The dispatcher lets other tasks run after each write, so clients leave, catch up and come back
    in mid-cycle.
    """
    followers: list[Follower] = [
        kind(*channels, options=options) for kind, channels, options in clients
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("odin_ws.hub.dispatcher._SLICE_SECONDS", -1.0)
        patch.setattr("odin_ws.hub.dispatcher._SLICE_WRITES", 1)
        play(followers, retained, [*CONNECTS, Pause(0.7), *plan])
