"""The subscriptions of the benchmark's connections."""

from __future__ import annotations

import pytest

from odin_ws.bench.subscriptions import popularity, reach, subscriptions
from odin_ws.bench.workload import Names, Workload
from odin_ws.catalogue import load_catalogue

NAMES = Names("B1-", ["trade", "social"], ["odin.trades", "odin.social"])


def test_default_workload_has_one_channel() -> None:
    """All connections subscribe to the channel."""
    workload, names = Workload(), Names("B1-", ["trade"], ["odin.trades"])

    found = subscriptions(workload, names, 3)

    assert [one.names for one in found] == [["B1-0.trade"]] * 3
    assert [one.channels.tolist() for one in found] == [[0]] * 3
    assert reach(workload, names, 3) == 1


def test_expected_channels_are_those_that_the_names_match() -> None:
    """The numbers of the channels are ascending."""
    workload = Workload(tokens=5, topics=2, each=3, zipf=True, patterned=0.5)
    every = {NAMES.channel(number): number for number in range(workload.channels)}

    for subscription in subscriptions(workload, NAMES, 40):
        matched = {
            number
            for name, number in every.items()
            for pattern in subscription.names
            if all(
                part in {"*", text}
                for part, text in zip(pattern.split("."), name.split("."), strict=True)
            )
        }
        assert subscription.channels.tolist() == sorted(matched)


def test_share_of_connections_has_patterns() -> None:
    """Both kinds of patterns occur."""
    workload = Workload(tokens=5, topics=2, each=2, patterned=0.25)
    patterns = [
        name
        for subscription in subscriptions(workload, NAMES, 40)
        for name in subscription.names
        if "*" in name
    ]

    assert len(patterns) == 10
    assert {name.startswith("*") for name in patterns} == {True, False}


def test_subscription_does_not_depend_on_number_of_connections() -> None:
    """All processes compute the same subscription."""
    workload = Workload(tokens=50, topics=2, each=3, zipf=True)
    few, many = subscriptions(workload, NAMES, 3), subscriptions(workload, NAMES, 30)

    assert [one.names for one in few] == [one.names for one in many[:3]]


def test_zipf_popularity_is_inverse_to_rank() -> None:
    """The shares add up to 1."""
    shares = popularity(Workload(tokens=100, zipf=True))

    assert shares[1] == pytest.approx(shares[0] / 2)
    assert shares.sum() == pytest.approx(1)


def test_workload_is_reduced_to_a_smaller_catalogue() -> None:
    """Topics, and channels per connection, are limited to those of the catalogue."""
    catalogue = load_catalogue('[[topics]]\nname = "t"\ncategory = "c"\n')

    assert Workload(tokens=5, topics=8, each=20).within(catalogue) == Workload(tokens=5, each=5)


def test_reach_without_zipf_is_share_of_channels() -> None:
    """Each connection follows 20 of 100 channels."""
    workload = Workload(tokens=100, each=20)

    assert reach(workload, Names("B1-", ["trade"], ["t"]), 50) == pytest.approx(0.2)
