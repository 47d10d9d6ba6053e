"""A stream of events that is torn off after any byte: nothing is lost, and nothing comes twice.

A test tears one stream after every byte, and resumes on another instance with nothing but the id
that a browser has then.
"""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import Event, EventSource
from tests.http_api.torn import (
    MARKERS,
    PARTITIONS,
    Key,
    Torn,
    followed,
    key_of,
    keys_of,
    messages_of,
    publish_markers,
    received,
    torn_states,
    two_instances,
)
from tests.hypothesis_examples import examples

TOKENS = ("BTC", "ETH", "RUNE", "SOL", "ODIN")
CATEGORIES = ("trade", "social", "liquidity")

ALL = "channels=*.trade,*.social"
SOME = f"channels=BTC.trade,ETH.social,RUNE.social,{','.join(MARKERS.values())}"
QUERIES = [ALL, f"{ALL}&frames=batch", SOME, f"{SOME}&frames=batch"]

# One topic after the other comes to its end.
ALL_MARKERS = 2 * PARTITIONS


class Publisher:
    """Publishes over tokens and categories, each record with a number of its own."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._count = 0

    def __call__(self, records: int) -> None:
        """Publish so many at once, which come in one write."""
        for _ in range(records):
            self._count += 1
            token, category = self._count * 7 % len(TOKENS), self._count % len(CATEGORIES)
            self._scenario.publish(TOKENS[token], CATEGORIES[category], self._count)


async def check_exact(
    scenario: Scenario, query: str, states: Iterable[Torn], wanted: Iterable[Key]
) -> list[tuple[Torn, list[Event]]]:
    """Resume from each state; returns the states with the notices that came then."""
    publish_markers(scenario)
    expected, found = Counter(wanted), []
    for state in states:
        if state.last_event_id:
            notices, rest = await followed(scenario, query, state.last_event_id, ALL_MARKERS)
            assert Counter(keys_of(state.events)) + Counter(rest) == expected, state
            found.append((state, notices))
    return found


@pytest.mark.parametrize("query", QUERIES)
async def test_live_stream_torn_after_any_byte_resumes_exactly(
    autojump_clock: MockClock, query: str
) -> None:
    """Also within a write of many messages, and around a positions notice."""
    async with two_instances() as (one, other):
        publish, source = Publisher(one), await EventSource.open(one, query)
        await source.event()
        for records in 1, 20, 0, 3, 7:
            publish(records)
            await trio.sleep(1 if records else 21)
        states = list(torn_states(await received(source)))
        wanted = keys_of(states[-1].events)
        assert len(wanted) > 5
        found = await check_exact(other, query, states, wanted)
        assert len(found) == len(states[-1].events), [e.name for e in states[-1].events]
        assert "positions" in {event.name for event in states[-1].events}
        recovered = [notices[0].json["recovered"] for _, notices in found]
        assert all(recovered)


@pytest.mark.parametrize("query", QUERIES)
async def test_resumed_stream_torn_after_any_byte_resumes_exactly(
    autojump_clock: MockClock, query: str
) -> None:
    """During the replay, between its end and what is live, and behind that."""
    async with two_instances() as (one, other):
        publish, source = Publisher(one), await EventSource.open(one, query)
        begin = (await source.event()).last_event_id
        publish(30)
        await trio.sleep(1)
        again = await EventSource.open(one, query, last_event_id=begin)
        publish(10)
        await trio.sleep(1)
        publish(8)
        states = list(torn_states(await received(again)))
        replays = [event.json.get("replay", False) for event in states[-1].events[1:]]
        assert (replays[0], replays[-1]) == (True, False)
        await check_exact(other, query, states, keys_of(states[-1].events))


async def check_recreated(scenario: Scenario, query: str, content: bytes) -> None:
    """Resume from each state of a stream in which odin.trades was recreated."""
    states = list(torn_states(content))
    last = states[-1].events
    at = next(n for n, event in enumerate(last) if event.name == "feed")
    old, new = keys_of(last[:at]), keys_of(last[at:])
    assert {key[0] for key in new} == {"trade", "social"}
    publish_markers(scenario)
    for state in states:
        if not state.last_event_id:
            continue
        notices, rest = await followed(scenario, query, state.last_event_id, ALL_MARKERS)
        # Of the old topic there is nothing left to send again.
        gone = {key for key in old if key[0] == "trade"} - {*keys_of(state.events)}
        got = Counter(keys_of(state.events)) + Counter(rest)
        assert got == Counter(old) + Counter(new) - Counter(gone), state
        ack = notices[0].json
        if len(state.events) > at:
            assert ack["recovered"]
        else:
            assert ack["reason"] == "recreated"


@pytest.mark.parametrize("query", [ALL, f"{ALL}&frames=batch"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_stream_torn_while_topic_is_recreated_misses_nothing_of_new_topic(
    autojump_clock: MockClock, query: str, *, at_once: bool
) -> None:
    """Also between the notice and the first new record; what was there before is told as lost.

    `at_once`: the hub gets the last old records and the news of the new topic in one cycle.
    """
    async with two_instances(ws_max_broadcast_rate=1) as (one, other):
        publish, source = Publisher(one), await EventSource.open(one, query)
        await source.event()
        for _ in range(4):
            publish(5)
            await trio.sleep(0.01)
        await trio.sleep(0 if at_once else 5)
        one.log.recreate("odin.trades")
        await trio.sleep(10)
        publish(20)
        await trio.sleep(5)
        await check_recreated(other, query, await received(source))


@pytest.mark.parametrize("query", [ALL, f"{ALL}&frames=batch"])
async def test_replay_torn_while_topic_is_recreated_misses_nothing_of_new_topic(
    autojump_clock: MockClock, query: str
) -> None:
    """The client has taken a part of its replay when the topic is recreated."""
    async with two_instances(ws_write_timeout_seconds=60) as (one, other):
        publish, source = Publisher(one), await EventSource.open(one, query)
        begin = (await source.event()).last_event_id
        publish(120)
        await trio.sleep(1)
        slow = await EventSource.open(one, query, last_event_id=begin, capacity=1000)
        await trio.sleep(1)
        one.log.recreate("odin.trades")
        await trio.sleep(10)
        publish(20)
        await trio.sleep(1)
        await check_recreated(other, query, await received(slow))


async def test_stream_torn_while_partition_is_truncated_misses_nothing_behind_the_cut(
    autojump_clock: MockClock,
) -> None:
    """The notice moves the id back: records that take the offsets again are not taken as known."""
    query = f"channels=BTC.trade,{','.join(MARKERS.values())}"
    async with two_instances() as (one, other):
        source = await EventSource.open(one, query)
        await source.event()
        first = [one.publish("BTC", "trade", n) for n in range(10)]
        partition = first[0].partition
        await trio.sleep(1)
        one.log.truncate("odin.trades", partition, 4)
        await trio.sleep(10)
        for n in range(10, 30):
            one.publish("BTC", "trade", n)
        states = list(torn_states(await received(source)))
        last = states[-1].events
        at = next(n for n, event in enumerate(last) if event.name == "feed")
        new = keys_of(last[at:])
        assert [key[2] for key in new] == list(range(10, 30))
        publish_markers(one)
        for state in states:
            if len(state.events) > at:
                _, rest = await followed(other, query, state.last_event_id, ALL_MARKERS)
                assert keys_of(state.events[at:]) + rest == new


async def test_stream_torn_around_an_expired_range_tells_it_once(autojump_clock: MockClock) -> None:
    """A client that was told what is lost resumes behind it."""
    async with two_instances(ws_history_bytes=0) as (one, other):
        source = await EventSource.open(one, ALL)
        begin = (await source.event()).last_event_id
        for n in range(12):
            one.publish("BTC", "trade", n)
        await trio.sleep(1)
        partition = one.publish("BTC", "trade", 12).partition
        one.log.delete_before("odin.trades", partition, 6)
        again = await EventSource.open(one, ALL, last_event_id=begin)
        states = list(torn_states(await received(again)))
        ack = states[-1].events[0].json
        assert (ack["recovered"], ack["reason"]) == (False, "expired")
        found = await check_exact(other, ALL, states, keys_of(states[-1].events))
        assert all(notices[0].json["recovered"] for _, notices in found)


@settings(max_examples=examples(40))
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from([0.0, 0.02, 0.3, 21.0]), st.floats(0, 1)),
        min_size=1,
        max_size=8,
    ),
    query=st.sampled_from(QUERIES),
)
def test_client_that_is_torn_off_again_and_again_gets_each_record_once(
    steps: list[tuple[int, float, float]], query: str
) -> None:
    """From instance to instance, at any byte of what came since; in order in each partition."""

    async def main() -> None:
        async with two_instances() as instances:
            publish, got = Publisher(instances[0]), list[Key]()
            last_event_id = ""
            for number, (records, seconds, share) in enumerate(steps):
                source = await EventSource.open(
                    instances[number % 2], query, last_event_id=last_event_id
                )
                if not last_event_id:
                    last_event_id = (await source.event()).last_event_id
                publish(records)
                await trio.sleep(seconds)
                content = await received(source)
                *_, state = [
                    Torn((), last_event_id),
                    *torn_states(content[: round(share * len(content))]),
                ]
                got += keys_of(state.events)
                last_event_id = state.last_event_id or last_event_id
            publish_markers(instances[0])
            _, rest = await followed(instances[0], query, last_event_id, ALL_MARKERS)
            got += rest
            _, wanted = await followed(instances[1], f"{query}&since_ms=0", "", ALL_MARKERS)
            assert Counter(got) == Counter(wanted)
            for partition in {(category, pos.split("-")[0]) for category, pos, _ in got}:
                offsets = [
                    int(pos.split("-")[1])
                    for category, pos, _ in got
                    if (category, pos.split("-")[0]) == partition
                ]
                assert offsets == sorted(offsets)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("frames", ["single", "batch"])
async def test_stream_with_a_rate_torn_after_any_byte_resumes_before_what_is_held_back(
    autojump_clock: MockClock, frames: str
) -> None:
    """The newest message of each channel comes, now or after the resume; none comes twice."""
    query = f"channels=*.trade,*.social&max_rate=0.5&frames={frames}"
    async with two_instances() as (one, other):
        publish, source = Publisher(one), await EventSource.open(one, query)
        await source.event()
        for _ in range(30):
            publish(5)
            await trio.sleep(0.3)
        await trio.sleep(15)
        states = list(torn_states(await received(source)))
        assert any("skipped" in event.json for event in states[-1].events)
        last = {message["channel"]: key_of(message) for message in messages_of(states[-1].events)}
        publish_markers(one)
        for state in states:
            if not state.last_event_id:
                continue
            _, rest = await followed(
                other, "channels=*.trade,*.social", state.last_event_id, ALL_MARKERS
            )
            known = keys_of(state.events)
            assert len({*known, *rest}) == len(known) + len(rest), state
            assert {*last.values()} <= {*known, *rest}, state
