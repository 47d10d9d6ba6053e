"""What partitions add up to: what is shown, what is stalled, what is down."""

from __future__ import annotations

import attrs

from odin_ws.kafka.partition import Partition, Problem
from odin_ws.kafka.source_status import SourceProblem
from odin_ws.kafka.status_rules import Evaluation, KnownProblems, evaluate
from odin_ws.records import TopicPartition

A0, A1 = TopicPartition("odin.trades", 0), TopicPartition("odin.trades", 1)
B0 = TopicPartition("odin.social", 0)
PATIENCE = 5.0
QUIET = KnownProblems({}, {}, {})


def partition(
    key: TopicPartition, since: float | None = None, reason: str = "no leader"
) -> Partition:
    """One that is read, or is in trouble since a time."""
    problem = None if since is None else Problem(reason, since)
    return Partition(key, 0, problem=problem, answered_at=0.0 if since is None else None)


def at(now: float, *partitions: Partition, known_problems: KnownProblems = QUIET) -> Evaluation:
    """Judge at a time."""
    return evaluate(partitions, known_problems, now, PATIENCE)


def test_nothing_wrong_is_nothing_shown() -> None:
    """All is read."""
    found = at(100, partition(A0), partition(B0))
    assert found == Evaluation((), frozenset(), frozenset(), None, all_begun=True)


def test_trouble_is_shown_when_it_has_lasted() -> None:
    """Not before the patience is over; the partition has not begun before either."""
    several = partition(A0, since=10), partition(B0)
    early, late = at(14.9, *several), at(15, *several)
    assert (early.problems, early.lasting, early.all_begun) == ((), frozenset(), False)
    assert late.problems == (SourceProblem("odin.trades", (0,), "no leader", 10),)
    assert (late.lasting, late.stalled_topics) == (frozenset({A0}), frozenset({"odin.trades"}))
    assert (late.all_down, late.all_begun) == (None, True)


def test_trouble_of_a_part_is_not_shown_for_two_seconds_with_any_patience() -> None:
    """Leaders move in that time."""
    several = partition(A0, since=10), partition(B0)
    assert evaluate(several, QUIET, 11.9, 0.5).problems == ()
    assert len(evaluate(several, QUIET, 12, 0.5).problems) == 1


def test_partition_that_was_never_fetched_has_not_begun() -> None:
    """Nothing is known of it yet."""
    assert not at(100, Partition(A0, 0), partition(B0)).all_begun


def test_partitions_of_a_topic_with_the_same_trouble_are_one_entry() -> None:
    """Since when the first had it; another reason is another entry."""
    found = at(100, partition(A0, 20), partition(A1, 10), partition(B0, 30, "x"))
    assert [str(one) for one in found.problems] == [
        "odin.social 0: x",
        "odin.trades 0, 1: no leader",
    ]
    assert [one.since for one in found.problems] == [30, 10]


def test_all_in_trouble_is_down_for_the_commonest_reason() -> None:
    """Only when all of it has lasted."""
    several = partition(A0, 10, "x"), partition(A1, 10), partition(B0, 12)
    assert at(16, *several).all_down is None
    assert at(17, *several).all_down == "no leader"


def test_unplaced_partitions_count_as_partitions() -> None:
    """One that cannot be placed is in trouble, and has not begun before that lasted."""
    known_problems = KnownProblems({B0: Problem("no leader", 10)}, {}, {})
    assert not at(11, partition(A0), known_problems=known_problems).all_begun
    found = at(15, partition(A0), known_problems=known_problems)
    assert (found.all_begun, found.all_down) == (True, None)
    assert found.stalled_topics == {"odin.social"}
    assert at(15, partition(A0, 10), known_problems=known_problems).all_down == "no leader"
    assert at(15, known_problems=known_problems).all_down == "no leader"


def test_topic_trouble_alone_is_down_where_nothing_else_is_read() -> None:
    """All denied: the reason is the right that is missing. Not at the first such answer."""
    known_problems = KnownProblems({}, {}, {"odin.trades": Problem("denied", 10)})
    early, late = at(14, known_problems=known_problems), at(15, known_problems=known_problems)
    assert (early.all_down, early.all_begun, early.problems) == (None, False, ())
    assert late.all_down == "denied"
    assert [str(one) for one in late.problems] == ["odin.trades: denied"]
    found = at(15, partition(B0), known_problems=known_problems)
    assert (found.all_down, found.all_begun) == (None, True)


def test_nothing_to_read_is_not_down() -> None:
    """No topic exists yet."""
    assert at(100).all_down is None


def test_held_partition_is_shown_and_not_stalled() -> None:
    """It is read, up to the open transaction."""
    known_problems = KnownProblems({}, {A0: Problem("held", 10)}, {})
    found = at(11, partition(A0), known_problems=known_problems)
    assert [str(one) for one in found.problems] == ["odin.trades 0: held"]
    assert (found.stalled_topics, found.all_down) == (frozenset(), None)


def test_held_partition_in_trouble_shows_its_trouble() -> None:
    """The transaction is not what keeps it from being read."""
    known_problems = KnownProblems({}, {A0: Problem("held", 10)}, {})
    found = at(100, partition(A0, 20), partition(B0), known_problems=known_problems)
    assert [str(one) for one in found.problems] == ["odin.trades 0: no leader"]


def test_trouble_left_from_an_outage_of_the_whole_gets_a_new_patience() -> None:
    """One partition answers some moments before the other: that is no news to anybody."""
    several = partition(A0, 10), partition(B0)
    known_problems = attrs.evolve(QUIET, up_since=100)
    assert at(104, *several, known_problems=known_problems).stalled_topics == frozenset()
    assert at(105, *several, known_problems=known_problems).stalled_topics == {"odin.trades"}


def test_trouble_shown_before_an_outage_of_the_whole_stays_shown() -> None:
    """It was not over: a notice that the topic is live again would be false."""
    several = partition(A0, 10), partition(B0)
    known_problems = attrs.evolve(QUIET, up_since=100, shown=frozenset({A0}))
    assert at(101, *several, known_problems=known_problems).stalled_topics == {"odin.trades"}
    assert (
        at(101, partition(A0), partition(B0), known_problems=known_problems).stalled_topics
        == frozenset()
    )
