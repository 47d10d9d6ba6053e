"""Names that are rejected do not affect the valid names of the same command."""

from __future__ import annotations

import pytest

from tests.protocol.commands import CATALOGUE, selecting, selection

CATEGORIES = list(CATALOGUE.categories)


@pytest.mark.parametrize(
    ("data", "name", "code", "words"),
    [
        ({"channels": ["BTC.foo"]}, "BTC.foo", "INVALID_CHANNEL", ["'foo'", *CATEGORIES]),
        ({"channels": ["BTC"]}, "BTC", "INVALID_CHANNEL", ["TRADING", "{token}.{category}"]),
        ({"channels": [""]}, "", "INVALID_CHANNEL", ["{token}.{category}"]),
        ({"channels": [".trade"]}, ".trade", "INVALID_CHANNEL", ["empty"]),
        ({"channels": ["B*.trade"]}, "B*.trade", "INVALID_CHANNEL", ["*"]),
        ({"channels": ["x" * 129 + ".trade"]}, "x" * 129 + ".trade", "INVALID_CHANNEL", ["128"]),
        ({"topics": ["odin.nope"]}, "odin.nope", "UNKNOWN_TOPIC", ["odin.trades", "odin.balances"]),
        ({"bundles": ["NOPE"]}, "NOPE", "UNKNOWN_BUNDLE", ["TRADING", "ALL"]),
        ({"topics": ["odin.trades"], "tokens": ["BTC", "*"]}, "*", "INVALID_CHANNEL", ["*"]),
        ({"bundles": ["ALL"], "tokens": ["BTC", ""]}, "", "INVALID_CHANNEL", ["empty"]),
    ],
)
@selecting
def test_invalid_name_is_rejected_and_others_take_effect(
    kind: str, data: dict[str, list[str]], name: str, code: str, words: list[str]
) -> None:
    """The rejection has the name, a code and what is allowed."""
    chosen = selection(kind, **(data | {"channels": ["ETH.trade", *data.get("channels", [])]}))
    (rejection,) = chosen.rejected
    assert (rejection.name, rejection.code) == (name, code)
    for word in words:
        assert word in rejection.message
    assert chosen.wanted["ETH.trade"] == ("ETH.trade",)
    assert name not in chosen.wanted


@pytest.mark.parametrize("tokens", [[], ["*"], ["", "a*"]])
@selecting
def test_topic_without_a_valid_token_is_rejected(kind: str, tokens: list[str]) -> None:
    """If `tokens` narrows a topic or bundle to no channel, the name is rejected, not subscribed."""
    chosen = selection(
        kind, topics=["odin.trades"], bundles=["ALL"], channels=["ETH.trade"], tokens=tokens
    )
    assert list(chosen.wanted) == ["ETH.trade"]
    rejected = {one.name: one for one in chosen.rejected}
    assert rejected.keys() == {"odin.trades", "ALL", *tokens}
    assert "data.tokens" in rejected["odin.trades"].message
    assert {rejection.code for rejection in chosen.rejected} == {"INVALID_CHANNEL"}
