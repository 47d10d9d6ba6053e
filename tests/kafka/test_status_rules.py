"""From partition problems to the status: shown, stalled, down."""

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
    return Partition(key, 0, problem=problem, has_fetched=since is None)


def at(now: float, *partitions: Partition, known_problems: KnownProblems = QUIET) -> Evaluation:
    """Judge at a time."""
    return evaluate(partitions, known_problems, now, PATIENCE)


def test_no_problem_shows_nothing() -> None:
    """All partitions are read."""
    found = at(100, partition(A0), partition(B0))
    assert found == Evaluation((), frozenset(), frozenset(), None, all_begun=True)


def test_problem_is_shown_after_the_patience() -> None:
    """The partition has not begun before that either."""
    several = partition(A0, since=10), partition(B0)
    early, late = at(14.9, *several), at(15, *several)
    assert (early.problems, early.lasting, early.all_begun) == ((), frozenset(), False)
    assert late.problems == (SourceProblem("odin.trades", (0,), "no leader", 10),)
    assert (late.lasting, late.stalled_topics) == (frozenset({A0}), frozenset({"odin.trades"}))
    assert (late.all_down, late.all_begun) == (None, True)


def test_partial_problem_is_not_shown_for_two_seconds() -> None:
    """Leaders move in that time."""
    several = partition(A0, since=10), partition(B0)
    assert evaluate(several, QUIET, 11.9, 0.5).problems == ()
    assert len(evaluate(several, QUIET, 12, 0.5).problems) == 1


def test_unfetched_partition_has_not_begun() -> None:
    """Its state is unknown."""
    assert not at(100, Partition(A0, 0), partition(B0)).all_begun


def test_equal_problems_of_a_topic_are_one_entry() -> None:
    """With the earliest time; another reason is another entry."""
    found = at(100, partition(A0, 20), partition(A1, 10), partition(B0, 30, "x"))
    assert [str(problem) for problem in found.problems] == [
        "odin.social 0: x",
        "odin.trades 0, 1: no leader",
    ]
    assert [problem.since for problem in found.problems] == [30, 10]


def test_all_partitions_failed_is_down_for_the_commonest_reason() -> None:
    """Only when all problems have lasted."""
    several = partition(A0, 10, "x"), partition(A1, 10), partition(B0, 12)
    assert at(16, *several).all_down is None
    assert at(17, *several).all_down == "no leader"


def test_partitions_without_start_offset_count_as_failed() -> None:
    """They have not begun before that has lasted."""
    known_problems = KnownProblems({B0: Problem("no leader", 10)}, {}, {})
    assert not at(11, partition(A0), known_problems=known_problems).all_begun
    found = at(15, partition(A0), known_problems=known_problems)
    assert (found.all_begun, found.all_down) == (True, None)
    assert found.stalled_topics == {"odin.social"}
    assert at(15, partition(A0, 10), known_problems=known_problems).all_down == "no leader"
    assert at(15, known_problems=known_problems).all_down == "no leader"


def test_topic_problems_alone_are_down_if_nothing_is_read() -> None:
    """All denied: the reason is the missing permission. Not at the first response."""
    known_problems = KnownProblems({}, {}, {"odin.trades": Problem("denied", 10)})
    early, late = at(14, known_problems=known_problems), at(15, known_problems=known_problems)
    assert (early.all_down, early.all_begun, early.problems) == (None, False, ())
    assert late.all_down == "denied"
    assert [str(problem) for problem in late.problems] == ["odin.trades: denied"]
    found = at(15, partition(B0), known_problems=known_problems)
    assert (found.all_down, found.all_begun) == (None, True)


def test_no_topics_is_not_down() -> None:
    """No topic exists yet."""
    assert at(100).all_down is None


def test_held_partition_is_shown_and_not_stalled() -> None:
    """It is read up to the open transaction."""
    known_problems = KnownProblems({}, {A0: Problem("held", 10)}, {})
    found = at(11, partition(A0), known_problems=known_problems)
    assert [str(problem) for problem in found.problems] == ["odin.trades 0: held"]
    assert (found.stalled_topics, found.all_down) == (frozenset(), None)


def test_held_partition_with_problem_shows_the_problem() -> None:
    """The transaction is not the reason."""
    known_problems = KnownProblems({}, {A0: Problem("held", 10)}, {})
    found = at(100, partition(A0, 20), partition(B0), known_problems=known_problems)
    assert [str(problem) for problem in found.problems] == ["odin.trades 0: no leader"]


def test_problem_left_after_an_outage_gets_a_new_patience() -> None:
    """One partition recovers some moments before the other: that is not reported."""
    several = partition(A0, 10), partition(B0)
    known_problems = attrs.evolve(QUIET, up_since=100)
    assert at(104, *several, known_problems=known_problems).stalled_topics == frozenset()
    assert at(105, *several, known_problems=known_problems).stalled_topics == {"odin.trades"}


def test_problem_shown_before_an_outage_stays_shown() -> None:
    """A notice that the topic is live again would be false."""
    several = partition(A0, 10), partition(B0)
    known_problems = attrs.evolve(QUIET, up_since=100, shown=frozenset({A0}))
    assert at(101, *several, known_problems=known_problems).stalled_topics == {"odin.trades"}
    assert (
        at(101, partition(A0), partition(B0), known_problems=known_problems).stalled_topics
        == frozenset()
    )
