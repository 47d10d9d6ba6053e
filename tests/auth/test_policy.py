"""Rules say what a token without a `channels` claim may read; a claim says all of it."""

from __future__ import annotations

import re

import pytest

from odin_ws.auth.policy import PolicyError, Rule, Subject, load_policy
from odin_ws.catalogue import default_catalogue
from tests.auth.claims_factory import grant

OWNER = '[categories.balances]\nwho = "owner"\nclaim = "tokens"\n'


def test_without_rules_all_but_the_private_is_everyones() -> None:
    """A token only has to be good."""
    one = grant()
    assert one.covers("*.trade")
    assert not one.covers("BTC.balances")
    assert grant(private=()).covers("*.*")


@pytest.mark.parametrize(
    ("channels", "pattern", "covered"),
    [
        ([], "BTC.trade", False),
        (["*.trade", "BTC.*"], "ETH.trade", True),
        (["*.trade", "BTC.*"], "BTC.balances", True),
        (["*.trade", "BTC.*"], "ETH.balances", False),
        (["*.trade", "BTC.*"], "ETH.analytics", False),
        (["PORTFOLIO"], "*.balances", True),
        (["BTC.PORTFOLIO"], "BTC.balances", True),
        (["BTC.PORTFOLIO"], "*.balances", False),
        (["*.*"], "*.balances", True),
        (["other.service:read", "*.nope"], "BTC.trade", False),
    ],
)
def test_a_claim_says_all_that_is_granted(
    channels: list[str], pattern: str, *, covered: bool
) -> None:
    """Private or not, and nothing besides; what the catalogue does not have grants nothing."""
    assert grant(channels=channels).covers(pattern) is covered
    assert grant(OWNER, channels=channels, tokens=["ETH"]).covers(pattern) is covered


@pytest.mark.parametrize(
    ("value", "owned"),
    [
        ("BTC", {"BTC"}),
        (["BTC", "ETH"], {"BTC", "ETH"}),
        ([], set()),
        (None, set()),
        (7, set()),
        ([7, None, ["BTC"], "BTC"], {"BTC"}),
        ("*", set()),
        (["*"], set()),
        ("", set()),
        ("x" * 129, set()),
    ],
    ids=repr,
)
def test_an_owner_may_read_what_is_his(value: object, owned: set[str]) -> None:
    """The channels of the tokens in the claim; no value of it, not even `*`, is all of them."""
    one = grant(OWNER, tokens=value)
    assert {token for token in ("BTC", "ETH", "SOL") if one.covers(f"{token}.balances")} == owned
    assert not one.covers("*.balances")
    assert one.covers("*.trade")


def test_an_owner_is_known_by_sub_unless_a_claim_is_named() -> None:
    """Where channels are named after users."""
    one = grant('[categories.balances]\nwho = "owner"\n')
    assert one.covers("ann.balances")
    assert not one.covers("bob.balances")


def test_a_rule_can_make_a_private_category_everyones() -> None:
    """The policy says more than the list of private categories."""
    assert grant('[categories.balances]\nwho = "everyone"\n').covers("*.*")


def test_a_rule_can_make_any_category_private() -> None:
    """For whom it is granted only."""
    one = grant('[categories.social]\nwho = "granted"\n')
    assert one.missing(["BTC.*"]) == ["BTC.social", "BTC.balances"]


def test_what_else_a_token_says_is_in_the_grant() -> None:
    """Who it is, which token, until when, how much."""
    one = grant(jti="t-1", max_subscriptions=3)
    assert (one.user, one.token_id, one.expires_at) == ("ann", "t-1", 2_000_000_000)
    assert one.max_subscriptions == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("categories", "not TOML"),
        ("[rules]", "the policy: unknown key rules; allowed: categories"),
        ("categories = 1", "categories: must be a table"),
        ("[categories.balance]", "categories: unknown key balance; allowed: analytics"),
        ("[categories]\nbalances = 'owner'", "categories.balances: must be a table"),
        (
            "[categories.balances]",
            "categories.balances.who: must be one of everyone, granted, owner",
        ),
        ("[categories.balances]\nwho = 'me'", "one of everyone, granted, owner, not 'me'"),
        ("[categories.balances]\nwho = 'owner'\nclam = 'x'", "unknown key clam"),
        ("[categories.balances]\nwho = 'owner'\nclaim = 7", "claim: must be a text, not 7"),
        ("[categories.balances]\nwho = 'owner'\nclaim = ''", "claim: must be a text"),
        ("[categories.balances]\nwho = 'granted'\nclaim = 'x'", "only allowed with who = owner"),
    ],
)
def test_a_policy_that_makes_no_sense_is_told_where(text: str, problem: str) -> None:
    """A misspelt rule would leave a category to everyone."""
    with pytest.raises(PolicyError, match=re.escape(problem)):
        load_policy(text, default_catalogue(), ())


def test_rules_are_read_as_they_are_written() -> None:
    """Those of the file over those of the private categories."""
    policy = load_policy(OWNER, default_catalogue(), ("balances", "social"))
    assert policy.rules == {
        "balances": Rule(Subject.OWNER, "tokens"),
        "social": Rule(Subject.GRANTED),
    }
