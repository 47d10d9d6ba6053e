"""The policy for JWTs without a `channels` claim; the claim is complete."""

from __future__ import annotations

import re

import pytest

from odin_ws.auth.policy import PolicyError, Rule, Subject, load_policy
from odin_ws.catalogue import default_catalogue
from tests.auth.claims_factory import grant

OWNER = '[categories.balances]\nwho = "owner"\nclaim = "tokens"\n'


def test_without_rules_all_but_private_categories_are_granted() -> None:
    """To every valid token."""
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
def test_channels_claim_is_complete(channels: list[str], pattern: str, *, covered: bool) -> None:
    """Private or not; names that are not in the catalogue grant nothing."""
    assert grant(channels=channels).covers(pattern) is covered
    assert grant(OWNER, channels=channels, tokens=["ETH"]).covers(pattern) is covered


@pytest.mark.parametrize(
    ("value", "owned"),
    [
        ("BTC", ["BTC"]),
        (["BTC", "ETH"], ["BTC", "ETH"]),
        ([], []),
        (None, []),
        (7, []),
        ([7, None, ["BTC"], "BTC"], ["BTC"]),
        ("*", []),
        (["*"], []),
        ("", []),
        ("x" * 129, []),
    ],
    ids=lambda value: repr(sorted(value) if isinstance(value, set) else value),
)
def test_owner_may_read_own_channels(value: object, owned: list[str]) -> None:
    """The tokens of the claim; no value of it, not even `*`, grants all."""
    one = grant(OWNER, tokens=value)
    assert {token for token in ("BTC", "ETH", "SOL") if one.covers(f"{token}.balances")} == set(
        owned
    )
    assert not one.covers("*.balances")
    assert one.covers("*.trade")


def test_owner_is_sub_by_default() -> None:
    """For channels named after users."""
    one = grant('[categories.balances]\nwho = "owner"\n')
    assert one.covers("ann.balances")
    assert not one.covers("bob.balances")


def test_rule_can_open_a_private_category() -> None:
    """The policy overrides the list of private categories."""
    assert grant('[categories.balances]\nwho = "everyone"\n').covers("*.*")


def test_rule_can_make_a_category_private() -> None:
    """Then only `channels` grants it."""
    one = grant('[categories.social]\nwho = "granted"\n')
    assert one.missing(["BTC.*"]) == ["BTC.social", "BTC.balances"]


def test_grant_has_user_id_expiry_and_limit() -> None:
    """From the claims."""
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
        ("[categories.balances]\nwho = 'owner'\nclaim = 7", "claim: must be a string, not 7"),
        ("[categories.balances]\nwho = 'owner'\nclaim = ''", "claim: must be a string"),
        ("[categories.balances]\nwho = 'granted'\nclaim = 'x'", "only allowed with who = owner"),
    ],
)
def test_invalid_policy_is_reported_with_its_place(text: str, problem: str) -> None:
    """A misspelt rule would open a category."""
    with pytest.raises(PolicyError, match=re.escape(problem)):
        load_policy(text, default_catalogue(), ())


def test_rules_of_the_file_override_private_categories() -> None:
    """Each as written."""
    policy = load_policy(OWNER, default_catalogue(), ("balances", "social"))
    assert policy.rules == {
        "balances": Rule(Subject.OWNER, "tokens"),
        "social": Rule(Subject.GRANTED),
    }
