"""The number of patterns of a command is checked before they are created."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import Catalogue, default_catalogue
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Subscribe, size_of
from odin_ws.protocol.errors import CommandError, ErrorCode

CATALOGUE = default_catalogue()
TOKENS = [f"T{number}" for number in range(200)]


def subscribe(maximum: int = 1024, **data: Any) -> Subscribe:
    """Decode a subscribe command for a connection with this maximum of patterns."""
    command = decode_command(json.dumps({"type": "subscribe", "data": data}), CATALOGUE, maximum)
    assert isinstance(command, Subscribe)
    return command


def test_name_beyond_maximum_of_patterns_is_rejected() -> None:
    """Each name is rejected by itself; the others take effect."""
    selection = subscribe(
        bundles=["ALL", "COMMUNITY"], topics=["odin.trades"], channels=["BTC.trade"], tokens=TOKENS
    ).selection
    assert [(rejection.name, rejection.code) for rejection in selection.rejected] == [
        ("ALL", ErrorCode.TOO_MANY_SUBSCRIPTIONS)
    ]
    assert selection.wanted.keys() == {"BTC.trade", "odin.trades", "COMMUNITY"}
    assert "1024" in selection.rejected[0].message


def test_patterns_beyond_maximum_are_not_created(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kilobyte of names and tokens would otherwise keep the event loop busy."""
    made: list[int] = []
    expand = Catalogue.expand_bundle

    def counted(catalogue: Catalogue, name: str, tokens: Sequence[str] = ("*",)) -> tuple[str, ...]:
        patterns = expand(catalogue, name, tokens)
        made.append(len(patterns))
        return patterns

    monkeypatch.setattr(Catalogue, "expand_bundle", counted)
    subscribe(100, bundles=list(CATALOGUE.bundles), tokens=TOKENS)
    assert made
    assert max(made) <= 100


def test_equal_patterns_count_once() -> None:
    """A topic and the bundles that contain it have patterns in common."""
    narrow = TOKENS[:10]
    assert not subscribe(10, topics=["odin.trades"], tokens=narrow).selection.rejected
    twice = subscribe(80, bundles=["ALL"], topics=list(CATALOGUE.topics), tokens=narrow)
    assert not twice.selection.rejected
    assert size_of(twice) == 2 * 80
    over = subscribe(79, bundles=["ALL"], topics=list(CATALOGUE.topics), tokens=narrow).selection
    assert [one.name for one in over.rejected] == [list(CATALOGUE.topics)[-1], "ALL"]


@given(
    st.integers(1, 50),
    st.lists(st.sampled_from(["BTC.trade", "*.*", "ETH.ALL", "TRADING", "a.b"]), max_size=4),
    st.lists(st.sampled_from(sorted(CATALOGUE.topics)), max_size=8),
    st.lists(st.sampled_from(sorted(CATALOGUE.bundles)), max_size=6),
    st.none() | st.lists(st.sampled_from(TOKENS), max_size=20),
)
def test_selection_never_exceeds_maximum(
    maximum: int,
    channels: list[str],
    topics: list[str],
    bundles: list[str],
    tokens: list[str] | None,
) -> None:
    """Each name is either wanted or rejected."""
    names: dict[str, Any] = {"channels": channels, "topics": topics, "bundles": bundles}
    if tokens is not None and (topics or bundles):
        names["tokens"] = tokens
    selection = subscribe(maximum, **names).selection
    assert len({one for several in selection.wanted.values() for one in several}) <= maximum
    rejected = {one.name for one in selection.rejected}
    assert selection.wanted.keys() | rejected == {*channels, *topics, *bundles}


LONG = "\ue000" * 20_000


@pytest.mark.parametrize(
    "command",
    [
        {"type": LONG},
        {"type": "subscribe", LONG: 1},
        {"type": "subscribe", "data": {LONG: 1}},
        {"type": "resume", "data": {"positions": {LONG: {}}}},
        {"type": "resume", "data": {"positions": {"odin.trades": {LONG: 1}}}},
        {"type": "reconnect", "data": {"last_pos": {LONG: ""}}},
        {"type": "reconnect", "data": {"last_offset": {LONG: 1}}},
    ],
    ids=["type", "field", "data's field", "topic", "partition", "channel", "v0's topic"],
)
def test_error_truncates_long_input(command: dict[str, Any]) -> None:
    """A response must not be longer than its command."""
    with pytest.raises(CommandError, match=r"…") as caught:
        decode_command(json.dumps(command), CATALOGUE)
    assert len(str(caught.value)) < 1000


def test_rejection_message_does_not_repeat_long_category() -> None:
    """The rejection has the name in its own field."""
    (rejection,) = subscribe(channels=["BTC." + "x" * 50_000]).selection.rejected
    assert len(rejection.message) < 1000
