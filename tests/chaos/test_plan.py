"""The subscriptions of the clients."""

from __future__ import annotations

from pathlib import Path

import attrs

from tests.chaos.plan import FULL, SHORT, load_specs, save_specs, specs


def test_full_run_has_500_clients() -> None:
    """500 clients of both kinds with two to four tokens; two subscribe to everything."""
    crowd = specs(FULL)
    assert len({spec.name for spec in crowd}) == 500
    assert {spec.kind for spec in crowd} == {"library", "handwritten"}
    assert sum(spec.everything for spec in crowd) == 2
    others = [spec for spec in crowd if not spec.everything]
    assert {len(spec.channels) for spec in others} == {2, 3, 4}
    assert {name.rpartition(".")[2] for spec in others for name in spec.channels} == {"trade", "*"}


def test_clients_are_equal_in_every_run() -> None:
    """A second run can reproduce a loss."""
    assert specs(SHORT) == specs(SHORT)


def test_smaller_plan_keeps_the_shares() -> None:
    """With a tenth of the clients, a tenth is behind the proxy, and a tenth is far."""
    small = FULL.of(50)
    assert (small.clients, small.proxied, small.far) == (50, 6, 5)


def test_saved_clients_are_read_back(tmp_path: Path) -> None:
    """Another process reads equal clients."""
    crowd = [attrs.evolve(spec, url=f"ws://{spec.name}") for spec in specs(SHORT)]
    save_specs(tmp_path / "clients.json", crowd)
    assert list(load_specs(tmp_path / "clients.json")) == crowd
