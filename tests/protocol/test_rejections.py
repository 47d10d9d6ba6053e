"""Names that do not take effect are told apart from those beside them that do."""

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
def test_a_bad_name_is_rejected_alone(
    kind: str, data: dict[str, list[str]], name: str, code: str, words: list[str]
) -> None:
    """It comes back with a code and what is allowed; the good names beside it take effect."""
    chosen = selection(kind, **(data | {"channels": ["ETH.trade", *data.get("channels", [])]}))
    (rejection,) = chosen.rejected
    assert (rejection.name, rejection.code) == (name, code)
    for word in words:
        assert word in rejection.message
    assert chosen.wanted["ETH.trade"] == ("ETH.trade",)
    assert name not in chosen.wanted


@pytest.mark.parametrize("tokens", [[], ["*"], ["", "a*"]])
@selecting
def test_a_name_of_which_nothing_is_left_takes_no_effect_and_says_so(
    kind: str, tokens: list[str]
) -> None:
    """Narrowed to no valid token, a topic or bundle is not called subscribed."""
    chosen = selection(
        kind, topics=["odin.trades"], bundles=["ALL"], channels=["ETH.trade"], tokens=tokens
    )
    assert list(chosen.wanted) == ["ETH.trade"]
    rejected = {one.name: one for one in chosen.rejected}
    assert rejected.keys() == {"odin.trades", "ALL", *tokens}
    assert "data.tokens" in rejected["odin.trades"].message
    assert {one.code for one in chosen.rejected} == {"INVALID_CHANNEL"}
