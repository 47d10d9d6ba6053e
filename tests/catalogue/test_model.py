"""The catalogue is the platform's, and names expand to the patterns they stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import InvalidName, NameCode, Topic, default_catalogue

# Written out once more, and not taken from the catalogue: publishers and clients know these names.
TOPICS = {
    "odin.trades": ("trade", "TRADE_EXECUTED BUY_COMPLETED SELL_COMPLETED"),
    "odin.liquidity": ("liquidity", "LIQUIDITY_ADDED LIQUIDITY_REMOVED LIQUIDITY_REBALANCED"),
    "odin.metadata": ("metadata", "METADATA_UPDATED TOKEN_NAME_CHANGED TOKEN_FLAGS_CHANGED"),
    "odin.social": ("social", "TWITTER_VERIFIED SOCIAL_LINKS_UPDATED"),
    "odin.community": (
        "community",
        "COMMENT_POSTED COMMENT_PINNED COMMENT_UPVOTED FAVORITE_TOGGLED",
    ),
    "odin.creation": ("creation", "TOKEN_CREATED TOKEN_LISTED TOKEN_BONDED"),
    "odin.analytics": (
        "analytics",
        "PRICE_DELTA_UPDATED HOLDER_COUNT_UPDATED ANALYTICS_RECALCULATED TRENDING_UPDATED",
    ),
    "odin.balances": ("balances", "BALANCE_UPDATED TRANSFER_COMPLETED"),
}
BUNDLES = {
    "TRADING": "trade liquidity analytics",
    "FULL_MARKET": "trade liquidity analytics metadata",
    "COMMUNITY": "community social metadata",
    "PORTFOLIO": "trade analytics balances",
    "PRICE_ONLY": "trade analytics",
    "ALL": "trade liquidity metadata social community creation analytics balances",
}

CATALOGUE = default_catalogue()

every_bundle = pytest.mark.parametrize("bundle", BUNDLES)
tokens = st.text(
    st.characters(codec="utf-8", exclude_characters="*", exclude_categories=["Cc", "Cs"]),
    min_size=1,
    max_size=20,
)


def rejected(name: str) -> InvalidName:
    """What an entry of `channels` is rejected with."""
    with pytest.raises(InvalidName) as caught:
        CATALOGUE.expand_channel(name)
    return caught.value


def test_the_topics_are_the_platforms() -> None:
    """Eight topics with one category each and 24 event types, in the protocol's order."""
    assert list(CATALOGUE.topics.values()) == [
        Topic(name, category, tuple(events.split())) for name, (category, events) in TOPICS.items()
    ]
    assert list(CATALOGUE.topics) == list(TOPICS)
    assert len(CATALOGUE.topics) == len(CATALOGUE.categories) == 8


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_found_by_its_category_and_its_events(topic: str) -> None:
    """From any of the three one gets to the others."""
    category, events = TOPICS[topic]
    assert CATALOGUE.categories[category] is CATALOGUE.topics[topic]
    for event in events.split():
        assert CATALOGUE.event_types[event] is CATALOGUE.topics[topic]


def test_there_are_24_event_types() -> None:
    """None is listed twice, and none is missing."""
    assert len(CATALOGUE.event_types) == 24
    assert list(CATALOGUE.event_types) == [
        event for _, events in TOPICS.values() for event in events.split()
    ]


def test_the_bundles_are_the_platforms() -> None:
    """Six bundles with their categories in order."""
    assert CATALOGUE.bundles == {name: tuple(words.split()) for name, words in BUNDLES.items()}


@every_bundle
def test_a_bundle_reads_from_the_topics_of_its_categories(bundle: str) -> None:
    """Each category is one topic."""
    topics = CATALOGUE.topics_of(CATALOGUE.expand_bundle(bundle))
    assert {CATALOGUE.topics[name].category for name in topics} == set(BUNDLES[bundle].split())


# ---- patterns


@pytest.mark.parametrize(
    ("name", "patterns"),
    [
        ("BTC.trade", ["BTC.trade"]),
        ("*.trade", ["*.trade"]),
        ("BTC.*", ["BTC.*"]),
        ("*.*", ["*.*"]),
        ("a.b.c.trade", ["a.b.c.trade"]),
        ("odin.token.BTC.trade", ["odin.token.BTC.trade"]),
        ("trade.trade", ["trade.trade"]),
        ("..trade", ["..trade"]),
        ("TRADING.trade", ["TRADING.trade"]),
        ("BTC.TRADING", ["BTC.trade", "BTC.liquidity", "BTC.analytics"]),
        ("*.TRADING", ["*.trade", "*.liquidity", "*.analytics"]),
        ("TRADING", ["*.trade", "*.liquidity", "*.analytics"]),
        ("a.b.PRICE_ONLY", ["a.b.trade", "a.b.analytics"]),
    ],
)
def test_name_expands_to_its_patterns(name: str, patterns: list[str]) -> None:
    """Channels, patterns, bundles, and bundles for one token."""
    assert list(CATALOGUE.expand_channel(name)) == patterns


@given(tokens, st.sampled_from(sorted(CATALOGUE.categories)))
def test_any_token_has_a_channel_in_every_category(token: str, category: str) -> None:
    """What a key may be, a client may subscribe to."""
    assert CATALOGUE.expand_channel(f"{token}.{category}") == (f"{token}.{category}",)


@given(tokens, st.sampled_from(sorted(BUNDLES)))
def test_failing_10_any_token_has_every_bundle(token: str, bundle: str) -> None:
    """A bundle for one token is its channels."""
    expected = tuple(f"{token}.{category}" for category in BUNDLES[bundle].split())
    assert CATALOGUE.expand_channel(f"{token}.{bundle}") == expected


@given(st.lists(tokens, max_size=4))
def test_topics_and_bundles_are_narrowed_to_tokens(names: list[str]) -> None:
    """Each category is given for each token, and without tokens for all of them."""
    assert CATALOGUE.expand_topic("odin.social", names) == tuple(f"{name}.social" for name in names)
    assert sorted(CATALOGUE.expand_bundle("PRICE_ONLY", names)) == sorted(
        f"{name}.{category}" for name in names for category in ("trade", "analytics")
    )
    assert CATALOGUE.expand_topic("odin.social") == ("*.social",)
    assert CATALOGUE.expand_bundle("PRICE_ONLY") == ("*.trade", "*.analytics")


# ---- what is none


@pytest.mark.parametrize("name", ["BTC.foo", "BTC.", "BTC.Trade", "BTC.trading", "a.b.c", "*.**"])
def test_unknown_category_is_rejected_with_the_known_ones(name: str) -> None:
    """The sentence has the wrong one, all categories, all bundles and the star."""
    error = rejected(name)
    assert (error.name, error.code) == (name, NameCode.INVALID_CHANNEL)
    assert repr(name.rpartition(".")[2]) in error.message
    for word in (*CATALOGUE.categories, *BUNDLES, "*"):
        assert word in error.message


@pytest.mark.parametrize("name", ["", "BTC", "*", "trade", "Trading", "odin_trades"])
def test_a_name_without_a_dot_is_a_bundle_or_nothing(name: str) -> None:
    """The sentence has all bundles, and the form of a channel."""
    error = rejected(name)
    assert (error.name, error.code) == (name, NameCode.INVALID_CHANNEL)
    for word in (*BUNDLES, "{token}.{category}"):
        assert word in error.message


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (".trade", "empty"),
        ("B*C.trade", "*"),
        ("**.trade", "*"),
        ("*BTC.TRADING", "*"),
        ("*.a.trade", "*"),
        ("x" * 129 + ".trade", "128"),
        ("é" * 65 + ".TRADING", "128"),
    ],
)
def test_invalid_token_in_a_channel_is_rejected_with_the_rule(name: str, wrong: str) -> None:
    """A star stands for the whole token or not at all; a token has its limits in any name."""
    error = rejected(name)
    assert (error.name, error.code) == (name, NameCode.INVALID_CHANNEL)
    assert wrong in error.message


@pytest.mark.parametrize("name", ["", "trade", "odin.nope", "ODIN.TRADES", "*"])
def test_unknown_topic_is_rejected_with_the_known_ones(name: str) -> None:
    """The sentence has all topics."""
    with pytest.raises(InvalidName) as caught:
        CATALOGUE.expand_topic(name, ["BTC"])
    assert (caught.value.name, caught.value.code) == (name, NameCode.UNKNOWN_TOPIC)
    for topic in TOPICS:
        assert topic in caught.value.message


@pytest.mark.parametrize("name", ["", "trading", "NOPE", "*"])
def test_unknown_bundle_is_rejected_with_the_known_ones(name: str) -> None:
    """The sentence has all bundles."""
    with pytest.raises(InvalidName) as caught:
        CATALOGUE.expand_bundle(name)
    assert (caught.value.name, caught.value.code) == (name, NameCode.UNKNOWN_BUNDLE)
    for bundle in BUNDLES:
        assert bundle in caught.value.message


@given(st.text())
def test_any_name_is_patterns_or_a_rejection(name: str) -> None:
    """A pattern is made of a token or a star and a category or a star; nothing else comes out."""
    patterns: tuple[str, ...]
    try:
        patterns = CATALOGUE.expand_channel(name)
    except InvalidName:
        patterns = ()
    for pattern in patterns:
        left, category = pattern.rsplit(".", 1)
        assert left == "*" or "*" not in left
        assert category in {*CATALOGUE.categories, "*"}
