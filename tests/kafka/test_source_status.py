"""The status can be waited on, has the time of its last change, and is logged once per change."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.kafka.source_status import SourceState, SourceStatus


async def test_feed_is_starting_until_it_is_live(autojump_clock: MockClock) -> None:
    """Creating the object does not connect."""
    source_status = SourceStatus()
    assert source_status.state.value is SourceState.STARTING
    assert source_status.reason


async def test_status_change_wakes_waiting_tasks(autojump_clock: MockClock) -> None:
    """`since` is the time of the change."""
    source_status = SourceStatus()
    woken: list[float] = []

    async def wait() -> None:
        await source_status.state.wait_value(SourceState.LIVE)
        woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(7)
        source_status.transition(SourceState.LIVE)
    assert woken == [7]
    assert source_status.since == 7


async def test_repeated_status_updates_only_the_reason(
    autojump_clock: MockClock,
) -> None:
    """The duration stays correct."""
    source_status = SourceStatus()
    await trio.sleep(1)
    source_status.transition(SourceState.STALLED, "no answer")
    await trio.sleep(5)
    source_status.transition(SourceState.STALLED, "connection refused")
    assert source_status.since == 1
    assert source_status.reason == "connection refused"
    source_status.transition(SourceState.LIVE)
    assert source_status.since == 6
    assert source_status.reason == ""


async def test_status_change_is_logged_once(autojump_clock: MockClock) -> None:
    """Forty attempts per second are one line, and the recovery is one more."""
    source_status = SourceStatus()
    with capture_logs() as logs:
        for state in (SourceState.LIVE, SourceState.STALLED, SourceState.LIVE, SourceState.STOPPED):
            for _ in range(40):
                source_status.transition(state, "gone" if state is SourceState.STALLED else "")
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("feed is live", "info"),
        ("feed is stalled", "warning"),
        ("feed is live", "info"),
        ("feed is stopped", "info"),
    ]
    assert logs[1]["reason"] == "gone"


async def test_missing_topics_are_logged_once_per_change(autojump_clock: MockClock) -> None:
    """Also when all exist."""
    source_status = SourceStatus()
    with capture_logs() as logs:
        source_status.set_missing_topics(frozenset())
        for _ in range(3):
            source_status.set_missing_topics(frozenset({"odin.trades", "odin.social"}))
        source_status.set_missing_topics(frozenset({"odin.social"}))
        source_status.set_missing_topics(frozenset())
        source_status.set_missing_topics(frozenset())
    assert [line.get("topics") for line in logs] == [
        ["odin.social", "odin.trades"],
        ["odin.social"],
        None,
    ]
    assert [line["log_level"] for line in logs] == ["warning", "warning", "info"]
    assert source_status.missing_topics == frozenset()


@pytest.mark.parametrize("state", list(SourceState))
def test_status_prints_as_its_word(state: SourceState) -> None:
    """Health and metrics use it."""
    assert state == state.name.lower()
