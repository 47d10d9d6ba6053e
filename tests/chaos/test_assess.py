"""The assessment counts losses and closes, shows evidence, and assigns closes to faults."""

from __future__ import annotations

import pytest

from tests.chaos.assess import Assessment, Window, assess
from tests.chaos.journal import HEARTBEAT, LOST, Event, Journal
from tests.chaos.ledger import Ledger, pack
from tests.chaos.plan import ClientSpec

CALM = Window("none", "", began=0, until=10, fault_seconds=10)
RESTART = Window("rolling restart", "", 10, 20, fault_seconds=5, codes=frozenset({1012}), maximum=2)
KILL = Window("kill -9", "", 20, 30, fault_seconds=1, codes=frozenset({LOST}), maximum=1)
SKIPPED = Window("loss", "", 30, 30, skipped="no netem")
WINDOWS = [CALM, RESTART, KILL, SKIPPED]

SPECS = [
    ClientSpec("c0", ("BTC.trade",), "handwritten"),
    ClientSpec("c1", ("BTC.trade",), "library"),
]


@pytest.fixture
def ledger() -> Ledger:
    """A record per second for 30 seconds."""
    ledger = Ledger(["odin.trades"])
    for offset in range(30):
        ledger.add("BTC.trade", pack(0, 0, offset), offset + 0.5)
    return ledger


@pytest.fixture
def journals() -> list[Journal]:
    """Two clients that received everything."""
    both = []
    for spec in SPECS:
        journal = Journal(spec.name)
        journal.events.append(Event(0.1, "subscribed", {"positions": {"odin.trades": {"0": -1}}}))
        for offset in range(30):
            journal.positions.append(pack(0, 0, offset))
            journal.times.append(offset + 0.5)
        both.append(journal)
    return both


def assessment(ledger: Ledger, journals: list[Journal]) -> Assessment:
    """Return the assessment of a run of 30 seconds."""
    return assess(ledger, WINDOWS, SPECS, journals)


def closed(when: float, code: int) -> Event:
    """Return a close event of a client."""
    return Event(when, "closed", {"code": code, "reason": "x"})


def test_clean_run_is_good(ledger: Ledger, journals: list[Journal]) -> None:
    """Each client received everything, and no connection closed."""
    found = assessment(ledger, journals)
    assert found.good
    assert found.problems == []
    assert (found.clients, found.records, found.expected) == (2, 30, 60)
    assert [row.window for row in found.rows] == [CALM, RESTART, KILL]
    assert [row.silence(1) for row in found.rows] == [1, 1, 1]


def test_missing_record_is_reported_with_position_and_fault(
    ledger: Ledger, journals: list[Journal]
) -> None:
    """The evidence names the record, and the fault during which it was published."""
    del journals[1].positions[22:24]
    del journals[1].times[22:24]
    found = assessment(ledger, journals)
    assert not found.good
    assert found.counts["missing"] == 2
    (problem,) = found.problems
    assert "c1 (library" in problem
    assert "odin.trades/0 22..23 (2), published 2.50 s into 'kill -9'" in problem
    assert found.rows[2].silence(1) == 3


def test_close_explained_by_the_fault_is_good(ledger: Ledger, journals: list[Journal]) -> None:
    """Closes with a fault's codes are explained, up to its maximum."""
    journals[0].events += [closed(12, 1012), closed(21, LOST)]
    journals[1].events += [closed(13, 1012)]
    found = assessment(ledger, journals)
    assert found.good
    assert [dict(row.closes) for row in found.rows] == [{}, {1012: 2}, {LOST: 1}]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(closed(5, LOST), id="in the recovery"),
        pytest.param(closed(15, LOST), id="of another fault's code"),
        pytest.param(closed(15, 1011), id="of no fault's code"),
        pytest.param(closed(25, HEARTBEAT), id="by the client itself"),
    ],
)
def test_close_without_a_matching_fault_is_unexplained(
    ledger: Ledger, journals: list[Journal], event: Event
) -> None:
    """A close at another time, or with another code, is unexplained and shown."""
    journals[0].events.append(event)
    found = assessment(ledger, journals)
    assert found.counts["unexplained closes"] == 1
    (problem,) = found.problems
    assert problem.startswith("c0: closed")


def test_close_outside_of_all_windows_is_unexplained(
    ledger: Ledger, journals: list[Journal]
) -> None:
    """No connection may close while clients connect, or after the last fault."""
    journals[0].events.append(closed(31, LOST))
    assert assessment(ledger, journals).counts["unexplained closes"] == 1


def test_closes_over_the_maximum_of_a_fault_are_unexplained(
    ledger: Ledger, journals: list[Journal]
) -> None:
    """A killed instance explains only the closes of its own clients."""
    for journal in journals:
        journal.events.append(closed(21, LOST))
    assert assessment(ledger, journals).counts["unexplained closes"] == 1


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("not recovered", Event(21, "resumed", {"recovered": False, "replayed": 0})),
        ("errors", Event(21, "error", {"message": "NOT_AVAILABLE"})),
        ("subscribed anew", Event(21, "subscribed", {"positions": {}})),
    ],
)
def test_unexpected_event_of_a_client_is_a_problem(
    ledger: Ledger, journals: list[Journal], name: str, event: Event
) -> None:
    """A client that could not resume is a problem even if it missed nothing."""
    journals[0].events.append(event)
    found = assessment(ledger, journals)
    assert found.counts[name] == 1
    assert len(found.problems) == 1


def test_duplicates_dropped_by_the_library_count(ledger: Ledger, journals: list[Journal]) -> None:
    """A duplicate that the library hides from its user counts, because the server sent it."""
    journals[1].reported = {"duplicates": 2, "gaps": 3}
    found = assessment(ledger, journals)
    assert found.counts["duplicated"] == 2
    assert found.counts["gaps reported by the library"] == 3


def test_client_that_never_subscribed_is_a_problem(ledger: Ledger, journals: list[Journal]) -> None:
    """A client that never subscribed has missed everything."""
    journals[0] = Journal("c0")
    found = assessment(ledger, journals)
    assert found.counts["never subscribed"] == 1
    assert found.counts["missing"] == 30
