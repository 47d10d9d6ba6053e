"""`*` has one meaning, which indexes, history, snapshots and scans share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.auth.grants import Grant
from odin_ws.catalogue import default_catalogue
from odin_ws.history import History, ResumeCursor, SnapshotCache
from odin_ws.hub.subscriber import Subscriber
from odin_ws.hub.subscription_index import SubscriptionIndex
from odin_ws.pattern import (
    ANY,
    Pattern,
    channel_name,
    find_channels,
    has_token,
    matching_patterns,
)
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.resume.scan_chunks import ChunkStreamIndex
from odin_ws.steps import finish
from tests.factories import message

CATALOGUE = default_catalogue()
CATEGORIES = list(CATALOGUE.categories)[:3]
TOKENS = ["BTC", "ETH", "A.B"]
CHANNELS = [Pattern(token, category) for token in TOKENS for category in CATEGORIES]

texts = st.text(st.characters(codec="utf-8"), max_size=20)
words = st.text(st.characters(codec="utf-8", exclude_characters=".*"), max_size=10)
patterns = st.builds(Pattern, st.sampled_from([*TOKENS, ANY]), st.sampled_from([*CATEGORIES, ANY]))
several = st.lists(patterns, max_size=5)


def matched(*some: Pattern) -> set[Pattern]:
    """The channels of the test's small catalogue that any of these patterns matches."""
    return {channel for channel in CHANNELS if any(pattern.matches(*channel) for pattern in some)}


def messages() -> list[ChannelMessage]:
    """One message per channel, in order; each topic is one partition."""
    made = []
    for number, (token, category) in enumerate(CHANNELS, 1):
        one = message(token, category, offset=number)
        one.order = number
        made.append(one)
    return made


@given(texts, words)
def test_token_with_dots_keeps_its_channel(token: str, category: str) -> None:
    """A channel is split at its last dot, so a token may contain dots."""
    pattern = Pattern.parse(channel_name(token, category))
    assert pattern == (token, category)
    assert pattern.text == f"{token}.{category}"


@given(words)
def test_text_without_a_dot_is_no_pattern(text: str) -> None:
    """There is nothing to split."""
    with pytest.raises(ValueError, match=r"\{token\}\.\{category\}"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("BTC.trade", {"BTC.trade"}),
        ("*.trade", {"BTC.trade", "ETH.trade"}),
        ("BTC.*", {"BTC.trade", "BTC.social"}),
        ("*.*", {"BTC.trade", "ETH.trade", "BTC.social", "ETH.social"}),
        ("ETC.trade", set()),
    ],
)
def test_star_stands_for_a_whole_token_or_category(text: str, matches: set[str]) -> None:
    """Each form of pattern, on four channels."""
    channels = [(token, category) for token in ("BTC", "ETH") for category in ("trade", "social")]
    found = {
        channel_name(*channel) for channel in channels if Pattern.parse(text).matches(*channel)
    }
    assert found == matches


@given(patterns, st.sampled_from(CHANNELS))
def test_matching_patterns_are_those_that_match(pattern: Pattern, channel: Pattern) -> None:
    """An index looks up four texts for a channel: they are the patterns that match it."""
    assert (pattern.text in matching_patterns(*channel)) is pattern.matches(*channel)


@given(patterns, patterns)
def test_covering_pattern_matches_every_channel_of_the_other(one: Pattern, other: Pattern) -> None:
    """Without cover, the other pattern matches some further channel, perhaps of a future token."""
    world = [Pattern(token, category) for token in [*TOKENS, "NEW"] for category in CATEGORIES]
    world += [Pattern(token, "new") for token in [*TOKENS, "NEW"]]
    left_out = [it for it in world if other.matches(*it) and not one.matches(*it)]
    assert one.covers(other) is (not left_out)


@given(patterns, patterns)
def test_overlapping_patterns_match_a_channel_together(one: Pattern, other: Pattern) -> None:
    """Patterns that do not overlap never do."""
    assert one.overlaps(other) is (not matched(one).isdisjoint(matched(other)))


@given(several)
def test_each_matched_channel_is_found_once(some: list[Pattern]) -> None:
    """Overlapping patterns find a channel once, with one that matches it."""
    found = finish(find_channels([one.text for one in some], CATEGORIES))
    assert not {category for category, _ in found.named.values()} & found.whole.keys()
    assert {
        channel
        for channel in CHANNELS
        if channel.text in found.named or channel.category in found.whole
    } == matched(*some)
    for channel, (category, text) in found.named.items():
        assert Pattern.parse(channel).category == category
        assert Pattern.parse(text).covers(Pattern.parse(channel))
    for category, text in found.whole.items():
        assert Pattern.parse(text).covers(Pattern(ANY, category))


@given(st.frozensets(st.sampled_from([*TOKENS, ANY])), st.sampled_from([*TOKENS, ANY]))
def test_token_is_among_tokens_if_a_pattern_of_theirs_covers_it(
    tokens: frozenset[str], token: str
) -> None:
    """Grants keep tokens by category, in the sense of the patterns of these tokens."""
    covered = any(Pattern(one, "trade").covers(Pattern(token, "trade")) for one in tokens)
    assert has_token(tokens, token) is covered


@given(several, patterns)
def test_grant_covers_what_its_patterns_match(some: list[Pattern], asked: Pattern) -> None:
    """Only of existing categories."""
    allowed: dict[str, set[str]] = {category: set() for category in CATEGORIES}
    for one in some:
        for category in one.categories(CATEGORIES):
            allowed[category].add(one.token)
    grant = Grant({category: frozenset(tokens) for category, tokens in allowed.items()})
    expected = all(
        any(one.covers(Pattern(asked.token, category)) for one in some)
        for category in asked.categories(CATEGORIES)
    )
    assert grant.covers(asked.text) is expected


@given(several)
def test_index_history_snapshot_and_scans_agree(some: list[Pattern]) -> None:
    """Live delivery, history, snapshot and log scans select the matched channels."""
    names = [one.text for one in some]
    index = SubscriptionIndex()
    subscriber = Subscriber(lambda _frames: None)
    for name in names:
        index.add(subscriber, name)
    chunk_streams: ChunkStreamIndex[int] = ChunkStreamIndex()
    chunk_streams.enter(1, frozenset(names))
    history = History(CATALOGUE, 1 << 20, 60)
    snapshot = SnapshotCache(CATALOGUE, 1 << 20)
    made = messages()
    for one in made:
        history.begin(TopicPartition(one.record.topic, one.record.partition), 0)
    for one in made:
        history.keep(one, 0)
        snapshot.remember(one)
    expected = [one for one in made if Pattern(one.token, one.category) in matched(*some)]
    starts = {TopicPartition(message.record.topic, message.record.partition): 0 for message in made}
    resume_cursor = ResumeCursor(dict.fromkeys(names, starts))
    last = made[-1].order
    assert [one for one in made if index.matching(one)] == expected
    assert [one for one in made if chunk_streams.find(one.token, one.category)] == expected
    assert [one for one in made if resume_cursor.includes(one)] == expected
    assert list(finish(history.gather(resume_cursor, last, 1 << 20)).messages) == expected
    assert finish(history.since(names, 0, last)) == expected
    assert finish(snapshot.matching(names, last)) == expected
    assert {message.record.topic for message in expected} == set(CATALOGUE.topics_of(names)) & {
        message.record.topic for message in made
    }
