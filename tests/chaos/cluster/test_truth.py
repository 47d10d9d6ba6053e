"""The verdict of the course over three brokers, with records made up."""

from __future__ import annotations

import pytest

from tests.chaos.cluster.truth import Entry, State, Told, Truth, Verdict, matches


def published(truth: Truth, category: str, count: int, token: str = "T0") -> list[Entry]:  # noqa: S107
    """`count` records of one partition, acknowledged and in the log."""
    entries = []
    for offset in range(count):
        entry = truth.begin(category, token)
        entry.state, entry.partition, entry.offset = State.TAKEN, 0, offset
        entry.in_log = True
        entries.append(entry)
    return entries


@pytest.fixture
def truth() -> Truth:
    """Ten records of `trade`, numbered from 0."""
    truth = Truth("compacted", ("anew",))
    published(truth, "trade", 10)
    return truth


def judged(truth: Truth, *numbers: int, told: Told | None = None) -> Verdict:
    """The verdict on a client that takes everything and got these."""
    return truth.judge(["*.*"], numbers, {told} if told else set())


def test_a_client_with_each_record_once_has_nothing_wrong(truth: Truth) -> None:
    """Nothing is counted."""
    assert not judged(truth, *range(10)).counts.total()


def test_a_record_that_the_log_has_and_nobody_told_of_is_missing(truth: Truth) -> None:
    """Only this one."""
    assert judged(truth, *range(9)).missing == [9]


def test_a_record_that_the_log_lost_and_nobody_told_of_is_untold(truth: Truth) -> None:
    """The log has it no more: it is not missing."""
    truth.entries[9].in_log = False
    verdict = judged(truth, *range(9))
    assert (verdict.missing, verdict.untold) == ([], [9])


def test_a_loss_that_is_told_is_no_loss(truth: Truth) -> None:
    """The offsets of the range count, both ends included."""
    truth.entries[9].in_log = False
    assert not judged(truth, *range(9), told=Told("trade", 0, 9, 9, "expired")).counts.total()


def test_a_loss_that_is_told_without_cause_is_given_up(truth: Truth) -> None:
    """The log has the record, and nothing was done to its topic."""
    verdict = judged(truth, *range(9), told=Told("trade", 0, 9, 9, "expired"))
    assert verdict.given_up == [9]


def test_a_record_that_comes_twice_is_doubled(truth: Truth) -> None:
    """Its second coming counts, however late it is."""
    assert judged(truth, *range(10), 3).doubled == [3]


def test_a_record_behind_a_later_one_is_disordered(truth: Truth) -> None:
    """Both are of the same partition."""
    assert judged(truth, 0, 2, 1, *range(3, 10)).disordered == [1]


def test_an_aborted_record_is_foreign(truth: Truth) -> None:
    """Nobody may get it."""
    truth.entries[4].state = State.ABORTED
    assert judged(truth, *range(10)).foreign == [4]


def test_a_record_of_another_channel_is_foreign(truth: Truth) -> None:
    """The client had not asked for it."""
    assert truth.judge(["T1.*"], [0], set()).foreign == [0]


def test_what_compaction_removes_is_nobodys_loss(truth: Truth) -> None:
    """The log keeps the last record of a key, and that one is missing."""
    first, last = published(truth, "compacted", 2)
    first.in_log = False
    assert judged(truth, *range(10), last.number).counts.total() == 0
    assert judged(truth, *range(10), first.number).missing == [last.number]


def test_what_is_complete_ends_at_the_first_record_that_is_wanting(truth: Truth) -> None:
    """Records that are not acknowledged yet are wanting; those of other channels are not."""
    got = dict.fromkeys(range(6), 1)
    assert truth.complete_to(["*.*"], got, set(), range(10)) == 6
    assert truth.complete_to(["T1.*"], {}, set(), range(10)) == 10
    truth.entries[2].state = State.PENDING
    assert truth.complete_to(["*.*"], {0: 1, 1: 1}, set(), range(10)) == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.*", True), ("T0.*", True), ("*.trade", True), ("T1.*", False), ("*.social", False)],
)
def test_patterns(pattern: str, expected: bool) -> None:  # noqa: FBT001 -- a parameter of the table
    """A star stands for any token, or any category."""
    assert matches([pattern], "T0", "trade") is expected
