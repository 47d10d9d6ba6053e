"""Lone surrogates and huge numbers are rejected only in fields that the server reads."""

from __future__ import annotations

import json

import pytest

from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Heartbeat, Reconnect, Subscribe
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.responses import (
    Accepted,
    error_response,
    pong,
    subscription_ack,
    unsubscription_ack,
)
from tests.protocol.commands import CATALOGUE

LONE_SURROGATE = "\ud83d"


def rejection(message: object) -> CommandError:
    """Return the error of a command, and assert that it can be written as JSON."""
    with pytest.raises(CommandError) as caught:
        decode_command(json.dumps(message), CATALOGUE)
    response = json.loads(error_response(caught.value))
    assert response
    return caught.value


@pytest.mark.parametrize(
    "data",
    [{"x": LONE_SURROGATE}, {LONE_SURROGATE: 1}, {"x": 10**400}, {"x": {"y": [LONE_SURROGATE]}}],
)
def test_heartbeat_data_may_contain_anything(data: object) -> None:
    """The server does not read a heartbeat's data."""
    text = json.dumps({"type": "heartbeat", "id": 7, "data": data})
    assert decode_command(text, CATALOGUE) == Heartbeat(7)
    text = '{"type":"heartbeat","id":7,"data":{"x":1e400}}'
    assert decode_command(text, CATALOGUE) == Heartbeat(7)


def test_client_id_may_contain_lone_surrogate() -> None:
    """The SDK sends a `client_id`, which the server does not read."""
    message = {"type": "reconnect", "data": {"client_id": LONE_SURROGATE, "last_pos": {}}}
    assert decode_command(json.dumps(message), CATALOGUE) == Reconnect(None, {})


def test_id_with_lone_surrogate_is_echoed() -> None:
    """It is echoed as an escape, so that a browser finds the promise of the command."""
    command = decode_command(
        json.dumps({"type": "heartbeat", "id": f"a{LONE_SURROGATE}"}), CATALOGUE
    )
    assert command == Heartbeat(f"a{LONE_SURROGATE}")
    assert json.loads(pong(command.id, 1))["id"] == f"a{LONE_SURROGATE}"
    assert rejection({"type": "nonsense", "id": LONE_SURROGATE}).id == LONE_SURROGATE


def test_name_with_lone_surrogate_is_rejected_and_others_take_effect() -> None:
    """No record can have such a channel; the ack lists each rejected name."""
    names = [
        f"{LONE_SURROGATE}.trade",
        "BTC.trade",
        f"BTC.{LONE_SURROGATE}",
        LONE_SURROGATE,
        f"B{LONE_SURROGATE}C.TRADING",
    ]
    data = {
        "channels": names,
        "topics": ["odin.trades", LONE_SURROGATE],
        "tokens": ["BTC", LONE_SURROGATE],
    }
    command = decode_command(json.dumps({"type": "subscribe", "data": data}), CATALOGUE)
    assert isinstance(command, Subscribe)
    assert list(command.selection.wanted) == ["BTC.trade", "odin.trades"]
    accepted = Accepted(list(command.selection.wanted), command.selection.rejected, 2)
    for response in (subscription_ack, unsubscription_ack):
        ack = json.loads(response(command.id, Dialect.V1, accepted))
        rejected = [rejection["name"] for rejection in ack["rejected"]]
        assert sorted(rejected) == sorted([names[0], *names[2:], LONE_SURROGATE, LONE_SURROGATE])
        assert all(rejection["message"] for rejection in ack["rejected"])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"type": LONE_SURROGATE}, "type: "),
        ({"type": "heartbeat", LONE_SURROGATE: 1}, "a command: "),
        ({"type": "subscribe", "data": {"channels": [], LONE_SURROGATE: 1}}, "data of subscribe: "),
        (
            {"type": "subscribe", "data": {"channels": [], "delivery": LONE_SURROGATE}},
            "data.delivery: ",
        ),
        (
            {"type": "resume", "data": {"channels": [], "positions": {LONE_SURROGATE: {}}}},
            "data.positions.",
        ),
        (
            {
                "type": "resume",
                "data": {"channels": [], "positions": {"odin.trades": {LONE_SURROGATE: 1}}},
            },
            "data.positions.odin.trades: ",
        ),
        (
            {
                "type": "resume",
                "data": {"channels": [], "positions": {"odin.trades": {"0": 10**99}}},
            },
            "data.positions.odin.trades.0: ",
        ),
        (
            {"type": "reconnect", "data": {"last_pos": {f"{LONE_SURROGATE}.trade": "0-1"}}},
            "data.last_pos.",
        ),
        (
            {"type": "reconnect", "data": {"last_pos": {"BTC.trade": LONE_SURROGATE}}},
            "data.last_pos.",
        ),
        ({"type": "reconnect", "data": {"last_offset": {LONE_SURROGATE: 1}}}, "data.last_offset."),
        ({"type": "auth", "data": {"token": LONE_SURROGATE}}, "data.token: "),
        ({"type": "replay", "data": {"since": 10**400}}, "data.since: "),
    ],
    ids=ascii,
)
def test_lone_surrogate_in_read_field_is_rejected_with_field(message: object, field: str) -> None:
    """The error response can be written."""
    error = rejection(message)
    assert error.code in {ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE}
    assert error.message.startswith(field)
