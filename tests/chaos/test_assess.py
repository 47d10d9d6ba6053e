"""Losses and closes are counted, told with evidence, and never excused by the wrong fault."""

from __future__ import annotations

import pytest

from tests.chaos.assess import Assessment, Window, assess
from tests.chaos.journal import HEARTBEAT, LOST, Event, Journal
from tests.chaos.ledger import Ledger, pack
from tests.chaos.plan import Seat

CALM = Window("none", "", began=0, until=10, struck=10)
RESTART = Window("rolling restart", "", 10, 20, struck=5, codes=frozenset({1012}), most=2)
KILL = Window("kill -9", "", 20, 30, struck=1, codes=frozenset({LOST}), most=1)
SKIPPED = Window("loss", "", 30, 30, skipped="no netem")
WINDOWS = [CALM, RESTART, KILL, SKIPPED]

SEATS = [Seat("c0", ("BTC.trade",), "by hand"), Seat("c1", ("BTC.trade",), "library")]


@pytest.fixture
def ledger() -> Ledger:
    """A record a second."""
    ledger = Ledger(["odin.trades"])
    for offset in range(30):
        ledger.add("BTC.trade", pack(0, 0, offset), offset + 0.5)
    return ledger


@pytest.fixture
def journals() -> list[Journal]:
    """Two clients that got everything."""
    both = []
    for seat in SEATS:
        journal = Journal(seat.name)
        journal.events.append(Event(0.1, "subscribed", {"positions": {"odin.trades": {"0": -1}}}))
        for offset in range(30):
            journal.positions.append(pack(0, 0, offset))
            journal.times.append(offset + 0.5)
        both.append(journal)
    return both


def judged(ledger: Ledger, journals: list[Journal]) -> Assessment:
    """The assessment of a run of thirty seconds."""
    return assess(ledger, WINDOWS, SEATS, journals)


def closed(when: float, code: int) -> Event:
    """A close that a client has seen."""
    return Event(when, "closed", {"code": code, "reason": "x"})


def test_a_clean_run_is_good(ledger: Ledger, journals: list[Journal]) -> None:
    """A client that got everything, and that nobody closed, has no problem."""
    found = judged(ledger, journals)
    assert found.good
    assert found.problems == []
    assert (found.clients, found.records, found.expected) == (2, 30, 60)
    assert [row.window for row in found.rows] == [CALM, RESTART, KILL]
    assert [row.silence(1) for row in found.rows] == [1, 1, 1]


def test_a_missing_record_is_told_with_its_place_and_fault(
    ledger: Ledger, journals: list[Journal]
) -> None:
    """A loss in the report names its record, and the fault during which it was published."""
    del journals[1].positions[22:24]
    del journals[1].times[22:24]
    found = judged(ledger, journals)
    assert not found.good
    assert found.counts["missing"] == 2
    (problem,) = found.problems
    assert "c1 (library" in problem
    assert "odin.trades/0 22..23 (2), published 2.50 s into 'kill -9'" in problem
    assert found.rows[2].silence(1) == 3


def test_a_close_that_the_fault_explains_is_good(ledger: Ledger, journals: list[Journal]) -> None:
    """Closes of a fault's codes are expected, up to as many as it can explain."""
    journals[0].events += [closed(12, 1012), closed(21, LOST)]
    journals[1].events += [closed(13, 1012)]
    found = judged(ledger, journals)
    assert found.good
    assert [dict(row.closes) for row in found.rows] == [{}, {1012: 2}, {LOST: 1}]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(closed(5, LOST), id="in the calm"),
        pytest.param(closed(15, LOST), id="of another fault's code"),
        pytest.param(closed(15, 1011), id="of no fault's code"),
        pytest.param(closed(25, HEARTBEAT), id="by the client itself"),
    ],
)
def test_a_close_that_nothing_explains(
    ledger: Ledger, journals: list[Journal], event: Event
) -> None:
    """A close at another time, or of another code, is unexplained and told."""
    journals[0].events.append(event)
    found = judged(ledger, journals)
    assert found.counts["unexplained closes"] == 1
    (problem,) = found.problems
    assert problem.startswith("c0: closed")


def test_a_close_outside_of_all_windows(ledger: Ledger, journals: list[Journal]) -> None:
    """While clients arrive, and after the last fault, nobody may be closed either."""
    journals[0].events.append(closed(31, LOST))
    assert judged(ledger, journals).counts["unexplained closes"] == 1


def test_more_closes_than_a_fault_explains(ledger: Ledger, journals: list[Journal]) -> None:
    """A killed instance takes its own clients with it and nobody else's."""
    for journal in journals:
        journal.events.append(closed(21, LOST))
    assert judged(ledger, journals).counts["unexplained closes"] == 1


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("not recovered", Event(21, "resumed", {"recovered": False, "replayed": 0})),
        ("errors", Event(21, "error", {"message": "NOT_AVAILABLE"})),
        ("subscribed anew", Event(21, "subscribed", {"positions": {}})),
    ],
)
def test_what_a_client_should_not_be_told(
    ledger: Ledger, journals: list[Journal], name: str, event: Event
) -> None:
    """A client that could not go on where it was is a problem even if it missed nothing."""
    journals[0].events.append(event)
    found = judged(ledger, journals)
    assert found.counts[name] == 1
    assert len(found.problems) == 1


def test_what_the_library_passed_over_counts(ledger: Ledger, journals: list[Journal]) -> None:
    """A duplicate that the library hides from its user was still sent."""
    journals[1].told = {"duplicates": 2, "gaps": 3}
    found = judged(ledger, journals)
    assert found.counts["duplicated"] == 2
    assert found.counts["gaps told by the library"] == 3


def test_a_client_that_never_subscribed(ledger: Ledger, journals: list[Journal]) -> None:
    """A client that was never there has missed everything."""
    journals[0] = Journal("c0")
    found = judged(ledger, journals)
    assert found.counts["never subscribed"] == 1
    assert found.counts["missing"] == 30
