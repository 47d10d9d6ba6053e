"""A command is understood, or refused with a sentence that names the field; nothing is ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.catalogue import default_catalogue
from odin_ws.protocol.commands import (
    Command,
    CommandError,
    ErrorCode,
    Heartbeat,
    Selection,
    Subscribe,
    Unsubscribe,
    decode_command,
)

CATALOGUE = default_catalogue()
CATEGORIES = list(CATALOGUE.categories)

both = pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])


def decode(command: object) -> Command:
    """Read a command that is given as what its JSON stands for."""
    return decode_command(json.dumps(command), CATALOGUE)


def selection(kind: str = "subscribe", **data: object) -> Selection:
    """What the data of a command selects."""
    command = decode({"type": kind, "data": data})
    assert isinstance(command, Subscribe | Unsubscribe)
    return command.selection


def refused(command: object) -> CommandError:
    """What a command is refused with."""
    with pytest.raises(CommandError) as caught:
        decode(command)
    return caught.value


# ---- good ones


@pytest.mark.parametrize("command_id", [None, "", "a", "x" * 128, "é" * 128, 0, -5, 2**53])
def test_an_id_is_kept_for_the_answer(command_id: str | int | None) -> None:
    """A client can match answers to commands by whatever it numbers them with."""
    extra = {} if command_id is None else {"id": command_id}
    assert decode({"type": "heartbeat", **extra}) == Heartbeat(command_id)
    for kind in ("subscribe", "unsubscribe"):
        command = decode({"type": kind, **extra, "data": {"channels": []}})
        assert command.id == command_id


def test_an_id_of_null_is_none() -> None:
    """Libraries that write every field may write this one."""
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
        # Tokens do not narrow channels, which say their token themselves.
        (
            {"channels": ["ETH.trade"], "topics": ["odin.social"], "tokens": ["BTC"]},
            {"ETH.trade": ("ETH.trade",), "odin.social": ("BTC.social",)},
        ),
        ({"channels": []}, {}),
        ({"channels": [], "topics": [], "bundles": []}, {}),
    ],
)
@both
def test_names_are_resolved_to_patterns(
    kind: str, data: dict[str, object], wanted: dict[str, tuple[str, ...]]
) -> None:
    """Each name stands for its patterns, in subscribe and unsubscribe alike."""
    assert selection(kind, **data) == Selection(wanted, ())


def test_failing_10_every_bundle_can_be_subscribed_to() -> None:
    """A bundle is wired: it brings the channels of each of its categories."""
    chosen = selection(bundles=list(CATALOGUE.bundles), tokens=["BTC"])
    assert chosen.wanted == {
        name: tuple(f"BTC.{category}" for category in categories)
        for name, categories in CATALOGUE.bundles.items()
    }


@both
def test_a_name_given_twice_counts_once(kind: str) -> None:
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


def test_one_name_in_two_fields_stands_for_both() -> None:
    """What the first field brought is not lost to the second."""
    chosen = selection(channels=["PRICE_ONLY"], bundles=["PRICE_ONLY"], tokens=["BTC"])
    assert chosen.wanted == {"PRICE_ONLY": ("*.trade", "*.analytics", "BTC.trade", "BTC.analytics")}


@pytest.mark.parametrize(
    ("data", "asked"), [({}, False), ({"positions": False}, False), ({"positions": True}, True)]
)
def test_positions_are_asked_for_by_a_field(data: dict[str, object], *, asked: bool) -> None:
    """They make an ack long, so they come on demand."""
    command = decode({"type": "subscribe", "data": {"channels": ["BTC.trade"], **data}})
    assert isinstance(command, Subscribe)
    assert command.positions is asked


def test_the_usual_values_of_later_fields_are_accepted() -> None:
    """A client that writes every field need not know which server it talks to."""
    chosen = selection(channels=["BTC.trade"], snapshot=False, since_ms=None, delivery="all")
    assert list(chosen.wanted) == ["BTC.trade"]


# ---- names that do not take effect


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
@both
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
@both
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


# ---- bad ones


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{",
        '{"type":}',
        "{'type':'heartbeat'}",
        '{"type":"heartbeat"} {}',
        '{"type":NaN}',
        '\ufeff{"type":"heartbeat"}',
        '{"id":"\\ud800"}',
        "[" * 10_000,
    ],
)
def test_what_is_not_json_is_told_so(text: str) -> None:
    """A code of its own, for a client that is broken rather than mistaken."""
    with pytest.raises(CommandError) as caught:
        decode_command(text, CATALOGUE)
    assert caught.value.code is ErrorCode.INVALID_JSON
    assert caught.value.id is None
    assert "JSON" in str(caught.value)


@pytest.mark.parametrize("message", [None, 1, "subscribe", [], [{"type": "heartbeat"}], True])
def test_a_command_is_an_object(message: object) -> None:
    """Other JSON is no command."""
    error = refused(message)
    assert (error.code, error.message) == (
        ErrorCode.INVALID_MESSAGE,
        "a command is a JSON object",
    )


@pytest.mark.parametrize("kind", [None, 1, [], {}, "", "SUBSCRIBE", "subscribe ", "publish"])
def test_an_unknown_type_is_told_what_there_is(kind: object) -> None:
    """The answer names the types that there are, and the id comes back."""
    for command in ({"type": kind, "id": 7}, {"id": 7}):
        error = refused(command)
        assert (error.code, error.id) == (ErrorCode.UNKNOWN_TYPE, 7)
        for word in ("type", "subscribe", "unsubscribe", "heartbeat"):
            assert word in error.message


@pytest.mark.parametrize("kind", ["resume", "reconnect", "replay", "auth"])
def test_what_comes_later_is_not_available(kind: str) -> None:
    """A command of the protocol that this server does not have is told from an unknown one."""
    error = refused({"type": kind, "id": "x", "data": {"anything": 1}})
    assert (error.code, error.id) == (ErrorCode.NOT_AVAILABLE, "x")
    assert kind in error.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("snapshot", True),
        ("since_ms", 0),
        ("since_ms", 1_767_609_600_123),
        ("delivery", "latest"),
        ("delivery", None),
    ],
)
def test_a_field_that_comes_later_is_not_available(field: str, value: object) -> None:
    """Whoever asks for it does not get a subscription that silently lacks it."""
    error = refused(
        {"type": "subscribe", "id": 1, "data": {"channels": ["BTC.trade"], field: value}}
    )
    assert (error.code, error.id) == (ErrorCode.NOT_AVAILABLE, 1)
    assert f"data.{field}" in error.message


@pytest.mark.parametrize(
    "command_id", [True, False, 1.5, [], {}, ["a"], "x" * 129, 2**64, 10**30], ids=repr
)
@pytest.mark.parametrize("kind", ["heartbeat", "subscribe", "nonsense"])
def test_an_id_that_cannot_be_echoed_is_refused(kind: str, command_id: object) -> None:
    """It is told so without one, whatever the rest of the command is."""
    error = refused({"type": kind, "id": command_id})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, None)
    assert error.message.startswith("id: ")
    assert "128" in error.message


@pytest.mark.parametrize("data", [None, 1, "BTC.trade", [], ["BTC.trade"], True])
@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe", "heartbeat"])
def test_data_is_an_object(kind: str, data: object) -> None:
    """Other data is refused, where none is needed too."""
    error = refused({"type": kind, "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith("data: ")


@pytest.mark.parametrize("data", [{}, {"tokens": ["BTC"]}])
@both
def test_something_has_to_be_selected(kind: str, data: dict[str, object]) -> None:
    """A command that names nothing is a mistake."""
    error = refused({"type": kind, "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    for field in ("channels", "topics", "bundles"):
        assert field in error.message


@both
def test_tokens_have_to_have_something_to_narrow(kind: str) -> None:
    """Tokens beside channels only would do nothing, so they are refused."""
    error = refused({"type": kind, "data": {"channels": ["BTC.trade"], "tokens": ["BTC"]}})
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.message.startswith("data.tokens: ")


@pytest.mark.parametrize("field", ["channels", "topics", "bundles", "tokens"])
@pytest.mark.parametrize(
    "value", [None, "BTC.trade", 1, {}, [1], [None], ["BTC.trade", 1], [["BTC.trade"]]]
)
@both
def test_names_come_as_a_list_of_texts(kind: str, field: str, value: object) -> None:
    """The message names the field that is not one."""
    data = {"channels": ["BTC.trade"], "topics": ["odin.trades"]} | {field: value}
    error = refused({"type": kind, "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith(f"data.{field}: ")


@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
def test_positions_is_a_boolean(value: object) -> None:
    """Nothing else is taken for yes or no."""
    error = refused({"type": "subscribe", "data": {"channels": [], "positions": value}})
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.message.startswith("data.positions: ")


@pytest.mark.parametrize(
    ("command", "field", "allowed"),
    [
        ({"type": "heartbeat", "extra": 1}, "extra", ["type", "id", "data"]),
        ({"type": "subscribe", "channels": ["BTC.trade"]}, "channels", ["type", "id", "data"]),
        (
            {"type": "subscribe", "data": {"channel": ["BTC.trade"]}},
            "channel",
            ["channels", "positions", "tokens"],
        ),
        (
            {"type": "unsubscribe", "data": {"channels": [], "positions": True}},
            "positions",
            ["channels", "topics", "bundles", "tokens"],
        ),
    ],
)
def test_a_misspelt_field_is_noticed(
    command: dict[str, object], field: str, allowed: list[str]
) -> None:
    """An unknown field is named, and so are those that there are."""
    error = refused({"id": 1, **command})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert f"unknown field {field};" in error.message
    for word in allowed:
        assert word in error.message.partition("allowed:")[2]


@pytest.mark.parametrize("field", ["channels", "topics", "bundles", "tokens"])
@both
def test_failing_20_the_number_of_names_is_limited(kind: str, field: str) -> None:
    """1024 names in a field are answered name by name; one more is refused as a whole."""
    most = [f"T{number}.trade" for number in range(1024)]
    data = {"topics": ["odin.trades"], field: most}
    chosen = selection(kind, **data)
    assert len(chosen.wanted) + len(chosen.rejected) >= len(data[field]) or field == "tokens"
    error = refused({"type": kind, "id": 1, "data": data | {field: [*most, "one.more"]}})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith(f"data.{field}: ")
    assert "1024" in error.message


# ---- anything at all

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["BTC.trade", "*.*", "TRADING", "odin.trades", "BTC"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)
near_commands = st.fixed_dictionaries(
    {"type": st.sampled_from(["subscribe", "unsubscribe", "heartbeat", "resume"]) | json_values},
    optional={
        "id": json_values,
        "data": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ["channels", "topics", "bundles", "tokens", "positions", "delivery", "since_ms"],
                st.lists(st.text(max_size=10) | json_values, max_size=3) | json_values,
            ),
        )
        | json_values,
    },
)


def understand(text: str) -> None:
    """Read a command from anywhere: it is one, or it is refused with a code and a sentence."""
    outcome: Command | CommandError
    try:
        outcome = decode_command(text, CATALOGUE)
    except CommandError as error:
        outcome = error
    if isinstance(outcome, CommandError):
        assert isinstance(outcome.code, ErrorCode)
        assert outcome.message
        assert outcome.retry is False
    else:
        assert isinstance(outcome, Subscribe | Unsubscribe | Heartbeat)


@given(st.text())
def test_any_text_is_understood_or_refused(text: str) -> None:
    """No text brings anything but a command or a CommandError."""
    understand(text)


@given(json_values)
def test_any_json_is_understood_or_refused(message: object) -> None:
    """Nor does any JSON, NaN and lone surrogates included."""
    understand(json.dumps(message))
    understand(json.dumps(message, ensure_ascii=False))


@given(near_commands)
def test_anything_like_a_command_is_understood_or_refused(message: dict[str, Any]) -> None:
    """Nor does what is nearly right."""
    understand(json.dumps(message))
