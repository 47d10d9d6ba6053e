"""Filters of the subscription index, after subscribers have left; limits of filters."""

from __future__ import annotations

from decimal import Decimal

import pytest

from odin_ws.hub import Subscriber
from odin_ws.hub.subscription_index import SubscriptionIndex
from odin_ws.hub.subscription_options import SubscriptionOptions
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.filters import InvalidFilter, read_filter
from odin_ws.protocol.filters.decimals import simplified
from odin_ws.protocol.filters.parser import MAX_TERMS
from odin_ws.records import Record


def test_filter_without_subscribers_is_not_evaluated() -> None:
    """Its set and its comparisons leave with the last subscriber."""
    index = SubscriptionIndex()
    left, stays = Subscriber(lambda _data: None), Subscriber(lambda _data: None)
    two = read_filter({"field": "a", "gte": 1, "lt": 9})
    one = read_filter({"field": "a", "gt": 0})
    index.add(left, "BTC.trade", SubscriptionOptions.of(None, two))
    index.add(stays, "BTC.trade", SubscriptionOptions.of(None, one))
    value = b'{"a":5}'
    message = ChannelMessage(
        Record("odin.trades", 0, 0, 0, b"BTC", value), "BTC", "trade", "BTC.trade", value
    )
    found, _, terms = index.matching_with_options(message)
    assert ([list(each.members) for each in found], terms) == ([[left], [stays]], 3)
    index.discard(left, "BTC.trade")
    found, _, terms = index.matching_with_options(message)
    assert ([list(each.members) for each in found], terms) == ([[stays]], 1)


@pytest.mark.parametrize(("text", "kind"), [("1e18", int), ("1.0", int), ("1e19", Decimal)])
def test_only_short_integers_become_int(text: str, kind: type) -> None:
    """An exponent of a million must not become a million digits."""
    assert type(simplified(Decimal(text))) is kind


def test_comparisons_of_nested_groups_count_together() -> None:
    """One more than the limit is too many, also if no group has that many."""
    several = [{"field": "a", "gt": number} for number in range(MAX_TERMS + 1)]
    tree = {"and": [{"or": several[1:]}, several[0]]}
    with pytest.raises(InvalidFilter, match=f"{MAX_TERMS + 1}"):
        read_filter(tree)
