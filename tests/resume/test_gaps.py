"""What of the past can be had and what is lost are told exactly, offset by offset."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.history import Want
from odin_ws.log_reader import Bounds, Span
from odin_ws.records import TopicPartition
from odin_ws.resume import Losses, Reason
from odin_ws.resume.gaps import judge_past, judge_unknown

FIRST, SECOND, THIRD = (TopicPartition("odin.trades", number) for number in range(3))
SOCIAL = TopicPartition("odin.social", 0)
KEYS = [FIRST, SECOND, THIRD, SOCIAL]

Spans = Mapping[TopicPartition, Span]

# Where a client stands, how far it is to the hot tail, and where the log begins.
places = st.dictionaries(
    st.sampled_from(KEYS),
    st.tuples(st.integers(-1, 40), st.integers(1, 30), st.integers(0, 80) | st.none()),
    max_size=4,
)


def judge(
    starts: Mapping[TopicPartition, tuple[int, int]],
    firsts: Mapping[TopicPartition, int],
    most: int = 1000,
) -> tuple[Want, Losses]:
    """Judge a client by its positions and the hot tail's floors, and the log by its oldest ones."""
    want = Want({"*.*": {key: position for key, (position, _) in starts.items()}})
    needed = {key: Span(position + 1, floor) for key, (position, floor) in starts.items()}
    bounds = {key: Bounds(first, 10_000) for key, first in firsts.items()}
    losses = Losses()
    judge_past(want, losses, needed, bounds, most)
    return want, losses


def offsets(spans: Spans) -> set[tuple[TopicPartition, int]]:
    """Every single one of them."""
    return {
        (key, offset) for key, span in spans.items() for offset in range(span.first, span.last + 1)
    }


# ---- what the log no longer has, and what is too much


@given(places=places, most=st.sampled_from([0, 1, 2, 7, 20, 1000]))
def test_what_is_kept_and_what_is_lost_is_what_was_asked_for(
    places: dict[TopicPartition, tuple[int, int, int | None]], most: int
) -> None:
    """No offset is in both, none in neither; and what is kept is there, and not too much."""
    starts = {key: (position, position + gap) for key, (position, gap, _) in places.items()}
    firsts = {key: first for key, (_, _, first) in places.items() if first is not None}
    want, losses = judge(starts, firsts, most)
    asked = offsets({key: Span(position + 1, floor) for key, (position, floor) in starts.items()})
    positions = want.positions()
    kept = offsets({key: Span(positions[key] + 1, floor) for key, (_, floor) in starts.items()})
    lost = offsets(losses.spans)
    assert kept | lost == asked
    assert not kept & lost
    assert len(kept) <= most
    assert all(key in firsts and offset >= firsts[key] for key, offset in kept)
    assert bool(losses.reasons) is bool(lost)
    # Newer than what is kept of a partition nothing is lost.
    assert all(span.last <= positions[key] for key, span in losses.spans.items())
    there = {(key, offset) for key, offset in asked if key in firsts and offset >= firsts[key]}
    assert (Reason.EXPIRED in losses.reasons) is (there != asked)
    assert (Reason.TOO_MANY in losses.reasons) is (len(there) > most)
    if len(there) <= most:
        assert kept == there


@pytest.mark.parametrize(
    ("oldest", "lost", "position"),
    [
        (0, None, 4),
        (5, None, 4),
        (6, Span(5, 5), 5),
        (10, Span(5, 9), 9),
        (11, Span(5, 10), 10),
        (500, Span(5, 10), 10),
        (None, Span(5, 10), 10),
    ],
)
def test_what_the_log_has_deleted_is_expired(
    oldest: int | None, lost: Span | None, position: int
) -> None:
    """Position 4, and the hot tail has what comes after 10; None: there is no such partition."""
    want, losses = judge({FIRST: (4, 10)}, {} if oldest is None else {FIRST: oldest})
    assert losses.spans == ({} if lost is None else {FIRST: lost})
    assert losses.reason == (None if lost is None else Reason.EXPIRED)
    assert want.positions() == {FIRST: position}


@pytest.mark.parametrize(
    ("most", "lost", "positions"),
    [
        (30, {}, [-1, -1]),
        (29, {FIRST: Span(0, 5)}, [5, -1]),
        (20, {FIRST: Span(0, 9)}, [9, -1]),
        (8, {FIRST: Span(0, 15), SECOND: Span(0, 5)}, [15, 5]),
        (3, {FIRST: Span(0, 18), SECOND: Span(0, 8)}, [18, 8]),
        (1, {FIRST: Span(0, 19), SECOND: Span(0, 9)}, [19, 9]),
        (0, {FIRST: Span(0, 19), SECOND: Span(0, 9)}, [19, 9]),
    ],
)
def test_of_too_many_the_newest_are_kept_an_equal_share_of_each_partition(
    most: int, lost: Spans, positions: list[int]
) -> None:
    """20 and 10 records are asked for."""
    want, losses = judge({FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 0, SECOND: 0}, most)
    assert losses.spans == lost
    assert losses.reason == (Reason.TOO_MANY if lost else None)
    assert want.positions() == dict(zip([FIRST, SECOND], positions, strict=True))


def test_what_is_expired_is_not_counted_among_too_many() -> None:
    """Only what could be read costs anything; both losses of a partition are told as one."""
    want, losses = judge({FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 10, SECOND: 0}, 20)
    assert losses.spans == {FIRST: Span(0, 9)}
    assert losses.reasons == {Reason.EXPIRED}
    want, losses = judge({FIRST: (-1, 19), SECOND: (-1, 9)}, {FIRST: 10, SECOND: 0}, 10)
    assert losses.spans == {FIRST: Span(0, 14), SECOND: Span(0, 4)}
    assert losses.reasons == {Reason.EXPIRED, Reason.TOO_MANY}
    assert want.positions() == {FIRST: 14, SECOND: 4}


# ---- what nobody ever had


def judge_ahead(position: int, live: int | None, bounds: Bounds | None) -> tuple[Want, Losses]:
    """Judge a client that is ahead of this instance."""
    want = Want({"*.*": {FIRST: position, SECOND: 3}})
    losses = Losses()
    judge_unknown(
        want,
        losses,
        {FIRST: position},
        {FIRST: live}.get,
        {} if bounds is None else {FIRST: bounds},
    )
    return want, losses


def test_who_is_ahead_of_us_and_not_of_the_log_is_waited_for() -> None:
    """Another instance was faster: the log has what the client has."""
    want, losses = judge_ahead(9, 5, Bounds(0, 10))
    assert losses.reason is None
    assert want.positions() == {FIRST: 9, SECOND: 3}


@pytest.mark.parametrize("position", [10, 11, 10**9])
def test_who_is_ahead_of_the_log_has_another_ones_position(position: int) -> None:
    """It is told all that there is now, and goes on live."""
    want, losses = judge_ahead(position, 7, Bounds(2, 10))
    assert losses.spans == {FIRST: Span(2, 7)}
    assert losses.reason is Reason.UNKNOWN_POSITION
    assert want.positions() == {FIRST: 7, SECOND: 3}


def test_a_partition_that_is_gone_has_nothing() -> None:
    """The span is empty: it ends before it begins."""
    want, losses = judge_ahead(4, -1, None)
    assert losses.spans == {FIRST: Span(0, -1)}
    assert want.positions() == {FIRST: -1, SECOND: 3}


def test_a_partition_that_is_another_instances_is_not_judged() -> None:
    """It was given to another member of the group while the log was asked."""
    want, losses = judge_ahead(4, None, Bounds(0, 2))
    assert losses.reason is None
    assert want.positions() == {FIRST: 4, SECOND: 3}


# ---- losses


def test_what_is_lost_of_one_partition_stands_together() -> None:
    """By topic and partition, in order, from its first offset to its last."""
    losses = Losses()
    losses.add(Reason.TOO_MANY, SECOND, Span(0, 4))
    losses.add(Reason.EXPIRED, FIRST, Span(3, 5))
    losses.add(Reason.EXPIRED, FIRST, Span(6, 9))
    losses.unknown(SOCIAL, Span(0, -1))
    found = losses.by_topic()
    assert found == {
        "odin.social": {0: Span(0, -1)},
        "odin.trades": {0: Span(3, 9), 1: Span(0, 4)},
    }
    assert [list(partitions) for partitions in found.values()] == [[0], [0, 1]]


def test_of_several_reasons_the_one_that_says_most_is_told() -> None:
    """A position nobody had comes before what is gone, and that before what is too much."""
    losses = Losses()
    assert losses.reason is None
    told: list[str | None] = []
    for reason in (Reason.TOO_MANY, Reason.EXPIRED, Reason.UNKNOWN_POSITION):
        losses.add(reason, FIRST, Span(0, 1))
        told.append(losses.reason)
    assert told == ["too_many", "expired", "unknown_position"]
