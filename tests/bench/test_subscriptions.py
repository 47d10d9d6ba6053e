"""Who subscribes to what."""

from __future__ import annotations

import pytest

from odin_ws.bench.subscriptions import popularity, reach, subscriptions
from odin_ws.bench.workload import Names, Workload
from odin_ws.catalogue import load_catalogue

NAMES = Names("B1-", ["trade", "social"], ["odin.trades", "odin.social"])


def test_one_channel() -> None:
    """By default everybody follows the one channel there is."""
    workload, names = Workload(), Names("B1-", ["trade"], ["odin.trades"])

    found = subscriptions(workload, names, 3)

    assert [one.names for one in found] == [["B1-0.trade"]] * 3
    assert [one.channels.tolist() for one in found] == [[0]] * 3
    assert reach(workload, names, 3) == 1


def test_names_and_numbers() -> None:
    """The channels that a connection expects are those that its names match, ascending."""
    workload = Workload(tokens=5, topics=2, each=3, zipf=True, patterned=0.5)
    every = {NAMES.channel(number): number for number in range(workload.channels)}

    for one in subscriptions(workload, NAMES, 40):
        matched = {
            number
            for name, number in every.items()
            for pattern in one.names
            if all(
                part in {"*", said}
                for part, said in zip(pattern.split("."), name.split("."), strict=True)
            )
        }
        assert one.channels.tolist() == sorted(matched)


def test_patterned() -> None:
    """So many of the connections have a pattern, of both kinds."""
    workload = Workload(tokens=5, topics=2, each=2, patterned=0.25)
    patterns = [
        name for one in subscriptions(workload, NAMES, 40) for name in one.names if "*" in name
    ]

    assert len(patterns) == 10
    assert {name.startswith("*") for name in patterns} == {True, False}


def test_the_same_in_all_processes() -> None:
    """The subscription of a connection does not depend on how many there are."""
    workload = Workload(tokens=50, topics=2, each=3, zipf=True)
    few, many = subscriptions(workload, NAMES, 3), subscriptions(workload, NAMES, 30)

    assert [one.names for one in few] == [one.names for one in many[:3]]


def test_zipf() -> None:
    """The second channel is half as popular as the first, and shares add up to all."""
    shares = popularity(Workload(tokens=100, zipf=True))

    assert shares[1] == pytest.approx(shares[0] / 2)
    assert shares.sum() == pytest.approx(1)


def test_workload_within_a_smaller_catalogue() -> None:
    """It has no more topics than the catalogue, and no subscriber wants more channels than that."""
    catalogue = load_catalogue('[[topics]]\nname = "t"\ncategory = "c"\n')

    assert Workload(tokens=5, topics=8, each=20).within(catalogue) == Workload(tokens=5, each=5)


def test_reach() -> None:
    """Without favourites a record goes to the share of the channels that each follows."""
    workload = Workload(tokens=100, each=20)

    assert reach(workload, Names("B1-", ["trade"], ["t"]), 50) == pytest.approx(0.2)
