"""The comparison of a run over three brokers, with made-up records."""

from __future__ import annotations

import pytest

from tests.chaos.cluster.truth import Entry, ReportedLoss, State, Truth, Verdict, matches


def published(truth: Truth, category: str, count: int, token: str = "T0") -> list[Entry]:  # noqa: S107
    """Add `count` records of one partition, acknowledged and in the log."""
    entries = []
    for offset in range(count):
        entry = truth.begin(category, token)
        entry.state, entry.partition, entry.offset = State.ACKNOWLEDGED, 0, offset
        entry.in_log = True
        entries.append(entry)
    return entries


@pytest.fixture
def truth() -> Truth:
    """Ten records of `trade`, numbered from 0."""
    truth = Truth("compacted", ("recreated",))
    published(truth, "trade", 10)
    return truth


def verdict_of(truth: Truth, *numbers: int, reported: ReportedLoss | None = None) -> Verdict:
    """Return the verdict on a client that subscribed to everything and received these records."""
    return truth.compare(["*.*"], numbers, {reported} if reported else set())


def test_client_with_each_record_once_has_no_problem(truth: Truth) -> None:
    """No count is raised."""
    assert not verdict_of(truth, *range(10)).counts.total()


def test_unreported_record_in_the_log_is_missing(truth: Truth) -> None:
    """Only this record is missing."""
    assert verdict_of(truth, *range(9)).missing == [9]


def test_unreported_record_gone_from_the_log_is_unreported(truth: Truth) -> None:
    """The log no longer has it, so it does not count as missing."""
    truth.entries[9].in_log = False
    verdict = verdict_of(truth, *range(9))
    assert (verdict.missing, verdict.unreported) == ([], [9])


def test_reported_loss_is_no_problem(truth: Truth) -> None:
    """A reported range includes its first and its last offset."""
    truth.entries[9].in_log = False
    assert not verdict_of(
        truth, *range(9), reported=ReportedLoss("trade", 0, 9, 9, "expired")
    ).counts.total()


def test_loss_reported_without_cause_is_given_up(truth: Truth) -> None:
    """The log still has the record, and no fault affected its topic."""
    verdict = verdict_of(truth, *range(9), reported=ReportedLoss("trade", 0, 9, 9, "expired"))
    assert verdict.given_up == [9]


def test_record_received_twice_is_doubled(truth: Truth) -> None:
    """The second receipt counts, at any later time."""
    assert verdict_of(truth, *range(10), 3).doubled == [3]


def test_record_that_the_log_has_twice_may_be_received_twice(truth: Truth) -> None:
    """A producer wrote it again after an unclean election; a third receipt is doubled."""
    truth.entries[3].copies = 2
    assert verdict_of(truth, *range(10), 3).doubled == []
    assert verdict_of(truth, *range(10), 3, 3).doubled == [3]


def test_record_received_after_a_later_one_is_disordered(truth: Truth) -> None:
    """Both records are from the same partition."""
    assert verdict_of(truth, 0, 2, 1, *range(3, 10)).disordered == [1]


def test_aborted_record_is_foreign(truth: Truth) -> None:
    """No client may receive a record of an aborted transaction."""
    truth.entries[4].state = State.ABORTED
    assert verdict_of(truth, *range(10)).foreign == [4]


def test_record_of_another_channel_is_foreign(truth: Truth) -> None:
    """The client did not subscribe to the record's channel."""
    assert truth.compare(["T1.*"], [0], set()).foreign == [0]


def test_compacted_record_is_not_missing(truth: Truth) -> None:
    """The log keeps the last record of a key; only that record counts as missing."""
    first, last = published(truth, "compacted", 2)
    first.in_log = False
    assert verdict_of(truth, *range(10), last.number).counts.total() == 0
    assert verdict_of(truth, *range(10), first.number).missing == [last.number]


def test_complete_to_ends_at_the_first_outstanding_record(truth: Truth) -> None:
    """An unacknowledged record ends the range; a record of another channel does not."""
    got = dict.fromkeys(range(6), 1)
    assert truth.complete_to(["*.*"], got, set(), range(10)) == 6
    assert truth.complete_to(["T1.*"], {}, set(), range(10)) == 10
    truth.entries[2].state = State.PENDING
    assert truth.complete_to(["*.*"], {0: 1, 1: 1}, set(), range(10)) == 2


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.*", True), ("T0.*", True), ("*.trade", True), ("T1.*", False), ("*.social", False)],
)
def test_pattern_matches_channel(pattern: str, expected: bool) -> None:  # noqa: FBT001 -- a parameter of the table
    """`*` stands for any token, or any category."""
    assert matches([pattern], "T0", "trade") is expected
