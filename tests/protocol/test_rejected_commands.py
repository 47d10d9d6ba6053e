"""An invalid command is rejected with a message that names the field; no field is ignored."""

from __future__ import annotations

import pytest

from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.errors import CommandError, ErrorCode
from tests.protocol.commands import CATALOGUE, rejected, required_data, selecting, selection


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
        '{"type":"heartbeat","data":{"x":"\\ud800","y":NaN}}',
        '{"type":"heartbeat","data":{"x":1e400,"y":01}}',
        '{"type":"heartbeat","data":{"x":"\ud800"}}',
        '{"id":"\\ud800","data":' + "[" * 600 + "]" * 600 + "}",
        "[" * 10_000,
        '{"a":' * 2_000 + "1" + "}" * 2_000,
    ],
)
def test_invalid_json_is_rejected_with_invalid_json(text: str) -> None:
    """The code differs from that of a valid JSON text which is no valid command."""
    with pytest.raises(CommandError) as caught:
        decode_command(text, CATALOGUE)
    assert caught.value.code is ErrorCode.INVALID_JSON
    assert caught.value.id is None
    assert "JSON" in str(caught.value)


@pytest.mark.parametrize(
    "message", [None, 1, "subscribe", [], [{"type": "heartbeat"}], True, 10**4000]
)
def test_json_other_than_object_is_rejected(message: object) -> None:
    """A command is a JSON object."""
    error = rejected(message)
    assert (error.code, error.message) == (
        ErrorCode.INVALID_MESSAGE,
        "a command must be a JSON object",
    )


@pytest.mark.parametrize("kind", [None, 1, [], {}, "", "SUBSCRIBE", "subscribe ", "publish"])
def test_unknown_type_is_rejected_with_list_of_types(kind: object) -> None:
    """The error has the command's id."""
    for command in ({"type": kind, "id": 7}, {"id": 7}):
        error = rejected(command)
        assert (error.code, error.id) == (ErrorCode.UNKNOWN_TYPE, 7)
        for word in ("type", "subscribe", "resume", "reconnect", "replay", "heartbeat"):
            assert word in error.message


@pytest.mark.parametrize(
    "data",
    [{}, {"token": None}, {"token": 7}, {"token": ["a"]}, {"token": "e30.\ud800.e30"}],
    ids=ascii,
)
def test_auth_token_other_than_string_is_rejected(data: object) -> None:
    """The error names the field and does not repeat its value."""
    error = rejected({"type": "auth", "id": "x", "data": data})
    assert (error.code, error.id, error.command) == (ErrorCode.INVALID_MESSAGE, "x", "auth")
    assert error.message == "data.token: must be a string"


@pytest.mark.parametrize(
    ("field", "values", "allowed"),
    [
        ("snapshot", [None, 0, 1, "true", [], {}], ["true or false"]),
        (
            "since_ms",
            [-1, 1.5, "0", True, [], {}, 2**53],
            ["an integer from 0 to 9007199254740991"],
        ),
        ("delivery", ["", "newest", "ALL", 1, True, [], {}, ["all"]], ["all, latest"]),
        ("max_rate", [0, 0.09, -1, 20.1, 10**400, "2", True, [], {}], ["from 0.1 to 20"]),
    ],
    ids=["snapshot", "since_ms", "delivery", "max_rate"],
)
def test_invalid_option_value_is_rejected_with_allowed_values(
    field: str, values: list[object], allowed: list[str]
) -> None:
    """The error names the field; the client is not subscribed with a default instead."""
    for value in values:
        data = {"channels": ["BTC.trade"], field: value}
        error = rejected({"type": "subscribe", "id": 1, "data": data})
        assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
        assert error.message.startswith(f"data.{field}: ")
        for words in allowed:
            assert words in error.message


def test_snapshot_with_since_ms_is_rejected() -> None:
    """Each of the two fields sets a start position."""
    data = {"channels": ["BTC.trade"], "snapshot": True, "since_ms": 0}
    error = rejected({"type": "subscribe", "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith("data.snapshot: ")
    assert "since_ms" in error.message


@pytest.mark.parametrize("positions", [None, [], True, "0-1", 5])
def test_resume_without_positions_is_rejected(positions: object) -> None:
    """A resume without positions would be a subscription that lost records silently."""
    data = {"channels": ["BTC.trade"], "positions": positions}
    for given in (data, {"channels": ["BTC.trade"]}):
        error = rejected({"type": "resume", "id": 1, "data": given})
        assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
        assert error.message.startswith("data.positions: ")


@pytest.mark.parametrize("delivery", ["newest", 1, []])
def test_resume_with_invalid_delivery_is_rejected(delivery: object) -> None:
    """The values are those of a subscription."""
    data = {"channels": ["BTC.trade"], "positions": {}, "delivery": delivery}
    assert rejected({"type": "resume", "data": data}).message.startswith("data.delivery: ")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data.last_pos"),
        ({"client_id": "x"}, "data.last_pos"),
        ({"last_pos": None}, "data.last_pos"),
        ({"last_pos": {}, "client_id": 7}, "data.client_id"),
        ({"last_pos": {}, "client_id": None}, "data.client_id"),
        ({"last_pos": {}, "client_id": "x" * 129}, "data.client_id"),
        ({"last_offset": None}, "data.last_offset"),
        ([], "data"),
    ],
    ids=str,
)
def test_invalid_reconnect_error_names_its_command(data: object, field: str) -> None:
    """The SDK waits for a `reconnect_error`, which is written for errors of this command."""
    error = rejected({"type": "reconnect", "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.command == "reconnect"
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data.from"),
        ({"from": 1}, "data.to"),
        ({"to": 1}, "data.from"),
        ({"from": 0, "to": 1}, "data.from"),
        ({"from": -1, "to": 1}, "data.from"),
        ({"from": "1", "to": 1}, "data.from"),
        ({"from": True, "to": 1}, "data.from"),
        ({"from": 1, "to": 1.0}, "data.to"),
        ({"from": 1, "to": None}, "data.to"),
        ({"from": 2, "to": 1}, "data.to"),
        ({"from": 1, "to": 2**53}, "data.to"),
        ({"since": -1}, "data.since"),
        ({"since": None}, "data.since"),
        ({"since": "1"}, "data.since"),
        ({"since": 1, "to": 2}, "data.since"),
        ({"since": 0, "from": 1, "to": 2}, "data.since"),
    ],
    ids=str,
)
def test_replay_with_invalid_range_is_rejected(data: dict[str, object], field: str) -> None:
    """Sequence numbers begin with 1; `since` may be 0, which means all messages."""
    error = rejected({"type": "replay", "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    "command_id",
    [True, False, 1.5, [], {}, ["a"], "x" * 129, 2**64, 10**30, -(2**63) - 1, 10**999],
    ids=lambda value: f"{repr(value)[:24]}-{len(repr(value))}",
)
@pytest.mark.parametrize("kind", ["heartbeat", "subscribe", "nonsense"])
def test_invalid_id_is_rejected_without_id(kind: str, command_id: object) -> None:
    """The error has no id, whatever the rest of the command is."""
    error = rejected({"type": kind, "id": command_id})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, None)
    assert error.message.startswith("id: ")
    assert "128" in error.message


@pytest.mark.parametrize("data", [None, 1, "BTC.trade", [], ["BTC.trade"], True])
@pytest.mark.parametrize(
    "kind", ["subscribe", "unsubscribe", "resume", "reconnect", "replay", "heartbeat"]
)
def test_data_other_than_object_is_rejected(kind: str, data: object) -> None:
    """Commands that need no data reject it too."""
    error = rejected({"type": kind, "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith("data: ")


@pytest.mark.parametrize("data", [{}, {"tokens": ["BTC"]}])
@selecting
def test_selection_without_names_is_rejected(kind: str, data: dict[str, object]) -> None:
    """The error lists the fields that select."""
    error = rejected({"type": kind, "id": 1, "data": data | required_data(kind)})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    for field in ("channels", "topics", "bundles"):
        assert field in error.message


@selecting
def test_tokens_without_topics_or_bundles_are_rejected(kind: str) -> None:
    """Tokens narrow topics and bundles; beside channels alone they have no effect."""
    data = {"channels": ["BTC.trade"], "tokens": ["BTC"]}
    error = rejected({"type": kind, "data": data | required_data(kind)})
    assert error.code is ErrorCode.INVALID_MESSAGE
    assert error.message.startswith("data.tokens: ")


@pytest.mark.parametrize("field", ["channels", "topics", "bundles", "tokens"])
@pytest.mark.parametrize(
    "value", [None, "BTC.trade", 1, {}, [1], [None], ["BTC.trade", 1], [["BTC.trade"]]]
)
@selecting
def test_names_other_than_list_of_strings_are_rejected(
    kind: str, field: str, value: object
) -> None:
    """The error names the field."""
    data = (
        {"channels": ["BTC.trade"], "topics": ["odin.trades"]}
        | {field: value}
        | required_data(kind)
    )
    error = rejected({"type": kind, "id": 1, "data": data})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith(f"data.{field}: ")


@pytest.mark.parametrize("value", [None, 0, 1, "true", []])
def test_positions_of_subscribe_other_than_boolean_is_rejected(value: object) -> None:
    """`0`, `1` and `"true"` are not taken for booleans."""
    error = rejected({"type": "subscribe", "data": {"channels": [], "positions": value}})
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
        (
            {"type": "resume", "data": {"channels": [], "positions": {}, "since_ms": 1}},
            "since_ms",
            ["channels", "topics", "bundles", "tokens", "positions", "delivery"],
        ),
        (
            {"type": "reconnect", "data": {"lastPos": {}}},
            "lastPos",
            ["client_id", "last_pos", "last_offset"],
        ),
        ({"type": "replay", "data": {"since_ms": 1}}, "since_ms", ["from", "to", "since"]),
    ],
)
def test_unknown_field_is_rejected_with_allowed_fields(
    command: dict[str, object], field: str, allowed: list[str]
) -> None:
    """The error names the unknown field and lists the known ones."""
    error = rejected({"id": 1, **command})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert f"unknown field {field};" in error.message
    for word in allowed:
        assert word in error.message.partition("allowed:")[2]


@pytest.mark.parametrize("field", ["channels", "topics", "bundles", "tokens"])
@selecting
def test_failing_20_more_than_1024_names_are_rejected(kind: str, field: str) -> None:
    """1,024 names in a field are evaluated name by name; with one more the command is rejected."""
    maximum = [f"T{number}.trade" for number in range(1024)]
    data = {"topics": ["odin.trades"], field: maximum} | required_data(kind)
    chosen = selection(kind, **data)
    assert len(chosen.wanted) + len(chosen.rejected) >= len(data[field]) or field == "tokens"
    error = rejected({"type": kind, "id": 1, "data": data | {field: [*maximum, "one.more"]}})
    assert (error.code, error.id) == (ErrorCode.INVALID_MESSAGE, 1)
    assert error.message.startswith(f"data.{field}: ")
    assert "1024" in error.message
