"""The feed's status can be waited on, is true since a known time, and is logged once a change."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from odin_ws.kafka.source_status import Feed, FeedStatus


async def test_a_feed_is_starting_until_it_is_live(autojump_clock: MockClock) -> None:
    """An object that exists is not a broker that answers."""
    feed = Feed()
    assert feed.status.value is FeedStatus.STARTING
    assert feed.reason


async def test_a_status_can_be_waited_on(autojump_clock: MockClock) -> None:
    """Whoever waits wakes up when it changes, and `since` is that time."""
    feed = Feed()
    woken: list[float] = []

    async def wait() -> None:
        await feed.status.wait_value(FeedStatus.LIVE)
        woken.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(7)
        feed.become(FeedStatus.LIVE)
    assert woken == [7]
    assert feed.since == 7


async def test_a_repeated_status_keeps_its_time_and_takes_the_new_reason(
    autojump_clock: MockClock,
) -> None:
    """How long it has lasted stays true, and why is the latest word."""
    feed = Feed()
    await trio.sleep(1)
    feed.become(FeedStatus.STALLED, "no answer")
    await trio.sleep(5)
    feed.become(FeedStatus.STALLED, "connection refused")
    assert feed.since == 1
    assert feed.reason == "connection refused"
    feed.become(FeedStatus.LIVE)
    assert feed.since == 6
    assert feed.reason == ""


async def test_a_change_of_status_is_logged_once(autojump_clock: MockClock) -> None:
    """Forty tries a second are one line, and being back is one more."""
    feed = Feed()
    with capture_logs() as logs:
        for status in (FeedStatus.LIVE, FeedStatus.STALLED, FeedStatus.LIVE, FeedStatus.STOPPED):
            for _ in range(40):
                feed.become(status, "gone" if status is FeedStatus.STALLED else "")
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("feed is live", "info"),
        ("feed is stalled", "warning"),
        ("feed is live", "info"),
        ("feed is stopped", "info"),
    ]
    assert logs[1]["reason"] == "gone"


async def test_missing_topics_are_logged_once_a_change(autojump_clock: MockClock) -> None:
    """Which they are is told when it changes, and also that they all exist now."""
    feed = Feed()
    with capture_logs() as logs:
        feed.miss(frozenset())
        for _ in range(3):
            feed.miss(frozenset({"odin.trades", "odin.social"}))
        feed.miss(frozenset({"odin.social"}))
        feed.miss(frozenset())
        feed.miss(frozenset())
    assert [line.get("topics") for line in logs] == [
        ["odin.social", "odin.trades"],
        ["odin.social"],
        None,
    ]
    assert [line["log_level"] for line in logs] == ["warning", "warning", "info"]
    assert feed.missing_topics == frozenset()


@pytest.mark.parametrize("status", list(FeedStatus))
def test_a_status_is_its_word(status: FeedStatus) -> None:
    """Health and metrics show it as it is."""
    assert status == status.name.lower()
