"""Journals survive being written and read."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.journal import Journal, load_journals, save_journals
from tests.chaos.ledger import pack


def test_saved_journals_are_read_back(tmp_path: Path) -> None:
    """Messages, replays and events of several clients are read back in order."""
    first, second = Journal("first"), Journal("second")
    first.event("subscribed", positions={"odin.trades": {"3": 41}})
    first.message("odin.trades", 3, 42, 1, replay=False)
    first.message("odin.liquidity", 4, 7, 2, replay=True)
    first.event("closed", code=1012, reason="draining")
    first.reported = {"duplicates": 1}
    save_journals(tmp_path / "journals", [first, second])

    read, empty = load_journals(tmp_path / "journals")
    assert read.name == "first"
    assert list(read.positions) == [pack(0, 3, 42), pack(1, 4, 7)]
    assert read.times == first.times
    assert read.replays == first.times[1:]
    assert read.events == first.events
    assert read.reported == first.reported
    assert (empty.name, len(empty.positions), empty.events) == ("second", 0, [])


def test_start_is_the_first_subscription() -> None:
    """A client must receive every record after its first subscription."""
    journal = Journal("one")
    assert journal.start is None
    journal.event("subscribed", positions={"odin.trades": {"3": 41}})
    journal.event("subscribed", positions={"odin.trades": {"3": 99}})
    assert journal.start == {("odin.trades", 3): 41}
