"""The snapshot cache keeps the last message of each channel within its size."""

from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import default_catalogue
from odin_ws.history import SnapshotCache
from odin_ws.history.history import retained_bytes
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.steps import finish
from tests.factories import message

CATALOGUE = default_catalogue()
TOKENS = ["BTC", "a.b", "b", "trade"]
CATEGORIES = ["trade", "social"]
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]

channels = st.tuples(st.sampled_from(TOKENS), st.sampled_from(CATEGORIES))

NO_LIMIT = 1 << 62


def snapshots_of(*changes: ChannelMessage, max_bytes: int = 1 << 20) -> SnapshotCache:
    """Return a cache that has received these messages."""
    snapshots = SnapshotCache(CATALOGUE, max_bytes)
    for order, one in enumerate(changes, 1):
        one.order = order
        snapshots.remember(one)
    return snapshots


def channels_and_offsets(messages: list[ChannelMessage]) -> list[tuple[str, int]]:
    """Return channel and offset of each message."""
    return [(message.channel, message.record.offset) for message in messages]


@given(
    changes=st.lists(st.tuples(channels, st.integers(0, 2000) | st.none()), max_size=30),
    max_bytes=st.sampled_from([0, 3000, 6000, 1 << 20]),
    patterns=st.sets(st.sampled_from(PATTERNS)),
)
def test_cache_keeps_last_message_per_channel_and_evicts_least_recently_changed(
    *,
    changes: list[tuple[tuple[str, str], int | None]],
    max_bytes: int,
    patterns: set[str],
) -> None:
    """The model is an OrderedDict; `None` deletes a channel."""
    snapshots = SnapshotCache(CATALOGUE, max_bytes)
    model: OrderedDict[str, ChannelMessage] = OrderedDict()
    for order, ((token, category), size) in enumerate(changes):
        one = message(token, category, b"x" * (size or 0), offset=order)
        one.order = order
        if size is None:
            snapshots.forget(one.channel)
            model.pop(one.channel, None)
            continue
        snapshots.remember(one)
        model[one.channel] = one
        model.move_to_end(one.channel)
        while sum(map(retained_bytes, model.values())) > max_bytes:
            model.popitem(last=False)
    assert len(snapshots) == len(model)
    assert snapshots.size == sum(map(retained_bytes, model.values()))
    newest = dict.fromkeys(one.token for one in [*reversed(model.values())][:3])
    assert snapshots.newest_tokens(3) == list(newest)
    assert channels_and_offsets(finish(snapshots.matching(patterns, NO_LIMIT))) == [
        (message.channel, message.record.offset)
        for message in model.values()
        if not patterns.isdisjoint(message.patterns)
    ]


def test_channel_that_several_patterns_match_is_returned_once() -> None:
    """Messages come in the order of their changes, whatever the order of the patterns."""
    snapshots = snapshots_of(
        message("BTC", offset=1),
        message("ETH", offset=2),
        message("BTC", "social", offset=1),
        message("BTC", offset=3),
    )
    found = finish(snapshots.matching(["ETH.trade", "*.trade", "BTC.*", "BTC.trade"], NO_LIMIT))
    assert channels_and_offsets(found) == [("ETH.trade", 2), ("BTC.social", 1), ("BTC.trade", 3)]


def test_message_larger_than_cache_is_not_kept() -> None:
    """It evicts all others, and then itself."""
    snapshots = snapshots_of(message("BTC"), message("ETH", value=b"x" * 5000), max_bytes=5000)
    assert (len(snapshots), snapshots.size) == (0, 0)


@pytest.mark.parametrize("category", CATEGORIES)
def test_forget_category_removes_all_its_channels(category: str) -> None:
    """The other category stays, and the size is that of its messages."""
    snapshots = snapshots_of(
        *(message(token, category) for token in TOKENS for category in CATEGORIES)
    )
    snapshots.forget_category(category)
    (other,) = set(CATEGORIES) - {category}
    assert [one.category for one in finish(snapshots.matching(["*.*"], NO_LIMIT))] == [other] * len(
        TOKENS
    )
    assert snapshots.size == sum(map(retained_bytes, finish(snapshots.matching(["*.*"], NO_LIMIT))))


def test_changed_channel_is_evicted_after_unchanged_one() -> None:
    """The cache has room for two channels; a third evicts the one that did not change again."""
    first, second, again, third = (message(token) for token in ("BTC", "a.b", "BTC", "b"))
    snapshots = snapshots_of(first, second, again, third, max_bytes=2 * retained_bytes(first) + 500)
    assert [one.token for one in finish(snapshots.matching(["*.*"], NO_LIMIT))] == ["BTC", "b"]
