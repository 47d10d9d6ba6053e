"""A covered pattern delivers only granted channels."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.auth.grants import Grant, full_grant, not_granted
from odin_ws.catalogue import default_catalogue
from odin_ws.pattern import matching_patterns
from tests.auth.claims_factory import grant

CATALOGUE = default_catalogue()
CATEGORIES = list(CATALOGUE.categories)
TOKENS = ["BTC", "a.b", "trade", "BTC.trade"]

# Whatever a claim or a client may name: channels, patterns, bundles, and what is none of them.
NAMES = st.one_of(
    st.sampled_from([*CATALOGUE.bundles, "nonsense", "", ".", "*", "*.nope", "B*.trade"]),
    st.tuples(
        st.sampled_from([*TOKENS, "*"]),
        st.sampled_from([*CATEGORIES, *CATALOGUE.bundles, "*"]),
    ).map(".".join),
)
PATTERNS = st.tuples(st.sampled_from([*TOKENS, "*"]), st.sampled_from([*CATEGORIES, "*"])).map(
    ".".join
)
CLAIMS = st.none() | st.lists(NAMES, max_size=4)
PRIVATE = st.sets(st.sampled_from(CATEGORIES), max_size=3)


def granted(channels: Iterable[str] | None, private: Iterable[str]) -> Grant:
    """The grant of a token with this claim."""
    if channels is None:
        return grant(private=tuple(private))
    return grant(private=tuple(private), channels=list(channels))


def may_read(token: str, category: str, channels: list[str] | None, private: set[str]) -> bool:
    """Whether one channel is granted, told in the plainest way."""
    if channels is None:
        return category not in private
    named = set(matching_patterns(token, category))
    named |= {
        name
        for bundle, members in CATALOGUE.bundles.items()
        if category in members
        for name in (bundle, f"*.{bundle}", f"{token}.{bundle}")
    }
    return not named.isdisjoint(channels)


@given(channels=CLAIMS, private=PRIVATE, pattern=PATTERNS)
def test_covered_pattern_matches_only_granted_channels(
    channels: list[str] | None, private: set[str], pattern: str
) -> None:
    """For any grant and pattern."""
    if granted(channels, private).covers(pattern):
        for token in [*TOKENS, "NEW"]:
            for category in CATEGORIES:
                if pattern in matching_patterns(token, category):
                    assert may_read(token, category, channels, private), (token, category)


@given(channels=CLAIMS, private=PRIVATE, pattern=PATTERNS)
def test_pattern_not_covered_matches_other_channels(
    channels: list[str] | None, private: set[str], pattern: str
) -> None:
    """Possibly of a token without records so far."""
    if not granted(channels, private).covers(pattern):
        assert any(
            not may_read(token, category, channels, private)
            for token in [*TOKENS, "NEW"]
            for category in CATEGORIES
            if pattern in matching_patterns(token, category)
        )


@given(channels=CLAIMS, private=PRIVATE, name=NAMES)
def test_missing_patterns_belong_to_the_request(
    channels: list[str] | None, private: set[str], name: str
) -> None:
    """Each is part of the pattern and not covered itself."""
    one = granted(channels, private)
    missing = one.missing([name] if "." in name and name != "." else [])
    for channel in missing:
        assert not one.covers(channel)


@given(pattern=PATTERNS)
def test_full_grant_has_everything_and_no_user(pattern: str) -> None:
    """For WS_AUTH=none."""
    one = full_grant(CATALOGUE)
    assert one.covers(pattern)
    assert (one.user, one.expires_at, one.max_subscriptions) == (None, None, None)


@pytest.mark.parametrize(
    ("patterns", "missing"),
    [
        (["*.*"], ["*.balances"]),
        (["BTC.*"], ["BTC.balances"]),
        (["*.trade"], []),
        (["*.trade", "*.analytics", "*.balances"], ["*.balances"]),
        (["BTC.balances", "*.*", "BTC.balances"], ["BTC.balances", "*.balances"]),
    ],
)
def test_without_a_claim_the_private_category_is_missing(
    patterns: list[str], missing: list[str]
) -> None:
    """Only that one, listed once."""
    assert grant().missing(patterns) == missing


def test_unknown_category_is_not_granted() -> None:
    """Even to a user who may read everything."""
    assert not full_grant(CATALOGUE).covers("BTC.foo")


def test_rejection_text_is_short() -> None:
    """However many tokens were requested."""
    assert not_granted(["*.balances"]) == "not granted: *.balances"
    assert not_granted([f"T{n}.balances" for n in range(4)]).endswith("T3.balances")
    assert not_granted([f"T{n}.balances" for n in range(1000)]) == (
        "not granted: T0.balances, T1.balances, T2.balances, T3.balances and 996 more"
    )
