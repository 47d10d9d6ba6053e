"""The subscriptions of the clients."""

from __future__ import annotations

from pathlib import Path

import attrs

from tests.chaos.plan import FULL, SHORT, load_seats, save_seats, seats


def test_the_crowd_of_a_full_run() -> None:
    """500 clients with two to four tokens each, both kinds, and a few that take everything."""
    crowd = seats(FULL)
    assert len({seat.name for seat in crowd}) == 500
    assert {seat.way for seat in crowd} == {"library", "by hand"}
    assert sum(seat.everything for seat in crowd) == 2
    others = [seat for seat in crowd if not seat.everything]
    assert {len(seat.channels) for seat in others} == {2, 3, 4}
    assert {name.rpartition(".")[2] for seat in others for name in seat.channels} == {"trade", "*"}


def test_the_crowd_is_the_same_in_every_run() -> None:
    """A loss can be looked for again."""
    assert seats(SHORT) == seats(SHORT)


def test_a_smaller_crowd_is_spread_alike() -> None:
    """With a tenth of the clients a tenth of them is behind the wire, and far."""
    small = FULL.of(50)
    assert (small.clients, small.wired, small.far) == (50, 6, 5)


def test_seats_survive_their_file(tmp_path: Path) -> None:
    """Another process gets the same seats."""
    crowd = [attrs.evolve(seat, url=f"ws://{seat.name}") for seat in seats(SHORT)]
    save_seats(tmp_path / "seats.json", crowd)
    assert list(load_seats(tmp_path / "seats.json")) == crowd
