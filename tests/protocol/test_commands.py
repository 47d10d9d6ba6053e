"""A valid command is decoded: its id is kept, and its names become patterns."""

from __future__ import annotations

import pytest

from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import (
    Delivery,
    Heartbeat,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
)
from odin_ws.protocol.selection import Selection
from odin_ws.records import TopicPartition
from tests.protocol.commands import CATALOGUE, decode, required_data, selecting, selection


@pytest.mark.parametrize("command_id", [None, "", "a", "x" * 128, "é" * 128, 0, -5, 2**53])
def test_command_id_is_kept(command_id: str | int | None) -> None:
    """A client matches responses to commands by it."""
    given = {} if command_id is None else {"id": command_id}
    assert decode({"type": "heartbeat", **given}) == Heartbeat(command_id)
    for kind in ("subscribe", "unsubscribe", "resume"):
        command = decode({"type": kind, **given, "data": {"channels": [], **required_data(kind)}})
        assert command.id == command_id


def test_null_id_is_no_id() -> None:
    """Libraries that write every field send `"id": null`."""
    assert decode({"type": "heartbeat", "id": None}) == Heartbeat(None)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"channels": ["BTC.trade"]}, {"BTC.trade": ("BTC.trade",)}),
        ({"channels": ["a.b.c.trade"]}, {"a.b.c.trade": ("a.b.c.trade",)}),
        ({"channels": ["*.trade"]}, {"*.trade": ("*.trade",)}),
        ({"channels": ["BTC.*", "*.*"]}, {"BTC.*": ("BTC.*",), "*.*": ("*.*",)}),
        (
            {"channels": ["PRICE_ONLY"]},
            {"PRICE_ONLY": ("*.trade", "*.analytics")},
        ),
        (
            {"channels": ["BTC.PRICE_ONLY"]},
            {"BTC.PRICE_ONLY": ("BTC.trade", "BTC.analytics")},
        ),
        ({"topics": ["odin.trades"]}, {"odin.trades": ("*.trade",)}),
        (
            {"topics": ["odin.trades", "odin.social"], "tokens": ["BTC", "a.b"]},
            {
                "odin.trades": ("BTC.trade", "a.b.trade"),
                "odin.social": ("BTC.social", "a.b.social"),
            },
        ),
        ({"bundles": ["PRICE_ONLY"]}, {"PRICE_ONLY": ("*.trade", "*.analytics")}),
        (
            {"bundles": ["PRICE_ONLY"], "tokens": ["BTC"]},
            {"PRICE_ONLY": ("BTC.trade", "BTC.analytics")},
        ),
        # Tokens do not narrow channels, which contain their own token.
        (
            {"channels": ["ETH.trade"], "topics": ["odin.social"], "tokens": ["BTC"]},
            {"ETH.trade": ("ETH.trade",), "odin.social": ("BTC.social",)},
        ),
        ({"channels": []}, {}),
        ({"channels": [], "topics": [], "bundles": []}, {}),
    ],
)
@selecting
def test_names_are_resolved_to_patterns(
    kind: str, data: dict[str, object], wanted: dict[str, tuple[str, ...]]
) -> None:
    """Each name stands for its patterns, in subscribe, unsubscribe and resume alike."""
    assert selection(kind, **data) == Selection(wanted, ())


def test_failing_10_bundle_resolves_to_its_categories() -> None:
    """Each bundle of the catalogue selects the channels of all its categories."""
    chosen = selection(bundles=list(CATALOGUE.bundles), tokens=["BTC"])
    assert chosen.wanted == {
        name: tuple(f"BTC.{category}" for category in categories)
        for name, categories in CATALOGUE.bundles.items()
    }


@selecting
def test_repeated_name_counts_once(kind: str) -> None:
    """Repetitions do not multiply with the tokens."""
    chosen = selection(
        kind,
        channels=["BTC.trade"] * 3,
        topics=["odin.trades"] * 3,
        bundles=["PRICE_ONLY"] * 3,
        tokens=["BTC", "ETH", "BTC"],
    )
    assert chosen.wanted == {
        "BTC.trade": ("BTC.trade",),
        "odin.trades": ("BTC.trade", "ETH.trade"),
        "PRICE_ONLY": ("BTC.trade", "ETH.trade", "BTC.analytics", "ETH.analytics"),
    }


def test_name_in_two_fields_gets_patterns_of_both() -> None:
    """The second field does not overwrite the patterns of the first."""
    chosen = selection(channels=["PRICE_ONLY"], bundles=["PRICE_ONLY"], tokens=["BTC"])
    assert chosen.wanted == {"PRICE_ONLY": ("*.trade", "*.analytics", "BTC.trade", "BTC.analytics")}


@pytest.mark.parametrize(
    ("data", "requested"), [({}, False), ({"positions": False}, False), ({"positions": True}, True)]
)
def test_positions_field_requests_positions(data: dict[str, object], *, requested: bool) -> None:
    """They make an ack long, so the client has to request them."""
    command = decode({"type": "subscribe", "data": {"channels": ["BTC.trade"], **data}})
    assert isinstance(command, Subscribe)
    assert command.positions is requested


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, {}),
        ({"snapshot": False, "since_ms": None, "delivery": None, "max_rate": None}, {}),
        ({"snapshot": True}, {"snapshot": True}),
        ({"since_ms": 0}, {"since_ms": 0}),
        ({"since_ms": 1_767_609_600_123}, {"since_ms": 1_767_609_600_123}),
        ({"since_ms": 2**53 - 1}, {"since_ms": 2**53 - 1}),
        ({"since_ms": 5, "snapshot": False}, {"since_ms": 5}),
        ({"snapshot": True, "since_ms": None}, {"snapshot": True}),
        ({"delivery": "all"}, {"delivery": Delivery.ALL}),
        ({"delivery": "latest"}, {"delivery": Delivery.LATEST}),
        ({"max_rate": 0.1}, {"max_rate": 0.1}),
        ({"max_rate": 20}, {"max_rate": 20.0}),
        # Rounded down to tenths, so that clients with nearly the same rate share the work.
        ({"max_rate": 0.7}, {"max_rate": 0.7}),
        ({"max_rate": 1 / 3}, {"max_rate": 0.3}),
        ({"max_rate": 1.99}, {"max_rate": 1.9}),
    ],
    ids=str,
)
def test_subscribe_options_are_decoded(
    data: dict[str, object], expected: dict[str, object]
) -> None:
    """An option that is left out or null has its default."""
    command = decode({"type": "subscribe", "data": {"channels": ["BTC.trade"], **data}})
    usual = {"snapshot": False, "since_ms": None, "delivery": None, "max_rate": None}
    assert isinstance(command, Subscribe)
    assert {name: getattr(command, name) for name in usual} == usual | expected


def test_resume_has_selection_positions_and_delivery() -> None:
    """JSON's keys are strings, so partitions are written as strings; offsets begin with -1."""
    positions = {"odin.trades": {"0": -1, "11": 2**62}, "odin.social": {}}
    data = {"channels": ["BTC.trade"], "positions": positions, "delivery": "latest"}
    assert decode({"type": "resume", "id": 3, "data": data}) == Resume(
        3,
        Selection({"BTC.trade": ("BTC.trade",)}, ()),
        {TopicPartition("odin.trades", 0): -1, TopicPartition("odin.trades", 11): 2**62},
        Delivery.LATEST,
        frozenset({"odin.trades", "odin.social"}),
    )


def test_resume_may_have_topic_ids_and_snapshot() -> None:
    """The client sends the topic ids that the server sent."""
    ids = {"odin.trades": "1f" * 16}
    data = {"channels": ["BTC.trade"], "positions": {}, "ids": ids, "snapshot": True}
    command = decode({"type": "resume", "data": {**data, "max_rate": 0.55}})
    assert isinstance(command, Resume)
    assert (command.ids, command.snapshot, command.topics) == (ids, True, frozenset())
    assert command.max_rate == 0.5


def test_reconnect_has_position_per_channel() -> None:
    """`client_id` is accepted and not used."""
    last = {"BTC.trade": "3-1250", "a.b.social": "0-0"}
    expected = {
        "BTC.trade": {TopicPartition("odin.trades", 3): 1250},
        "a.b.social": {TopicPartition("odin.social", 0): 0},
    }
    for data in ({"last_pos": last}, {"last_pos": last, "client_id": "x" * 128}):
        assert decode({"type": "reconnect", "id": "r", "data": data}) == Reconnect("r", expected)


def test_v0_reconnect_has_offset_per_topic() -> None:
    """Clients of the earlier server send `last_offset`."""
    last = {"odin.trades": 7, "odin.social": -1}
    data = {"client_id": "me", "last_offset": last}
    assert decode({"type": "reconnect", "data": data}) == Reconnect(None, {}, last)


@pytest.mark.parametrize(
    ("data", "first", "last"),
    [
        ({"from": 1, "to": 1}, 1, 1),
        ({"from": 5, "to": 2**53 - 1}, 5, 2**53 - 1),
        ({"since": 0}, 1, None),
        ({"since": 41}, 42, None),
    ],
    ids=str,
)
def test_replay_is_range_of_sequence_numbers(
    data: dict[str, object], first: int, last: int | None
) -> None:
    """Both ends are included; `since` is the last number that the client received."""
    assert decode({"type": "replay", "id": 1, "data": data}) == Resend(1, first, last)


def test_duplicate_field_takes_last_value() -> None:
    """JavaScript and Python parse it so too: the value a client's own parser shows is used."""
    text = '{"type":"unsubscribe","id":1,"type":"heartbeat","id":2}'
    assert decode_command(text, CATALOGUE) == Heartbeat(2)
    text = (
        '{"type":"unsubscribe","data":{"channels":[7]},'
        '"data":{"channels":["A.trade"],"channels":["B.trade"]}}'
    )
    command = decode_command(text, CATALOGUE)
    assert isinstance(command, Unsubscribe)
    assert list(command.selection.wanted) == ["B.trade"]


@pytest.mark.parametrize("token", ["\u202e", "\uffff", " ", '"', "🜁"])
def test_token_may_have_any_character(token: str) -> None:
    """Kafka's keys are bytes: a client can subscribe to any token that a publisher can write."""
    assert selection(channels=[f"{token}.trade"]).wanted == {f"{token}.trade": (f"{token}.trade",)}


@pytest.mark.parametrize(
    "name",
    ["**", "*", "*.**", "*.*.*", ".*", "*.", "**.trade", "B*.trade", "*.t*", "%.trade", ".."],
)
def test_wildcard_other_than_whole_part_is_rejected(name: str) -> None:
    """`*.*` is the one pattern for all channels, so that a grant can exclude it."""
    chosen = selection(channels=[name])
    assert chosen.wanted == ({name: (name,)} if name == "%.trade" else {})
    assert [one.name for one in chosen.rejected] == [name] * (name != "%.trade")
