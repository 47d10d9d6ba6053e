"""A command is not rejected for the encoding of what need not be read."""

from __future__ import annotations

import json

import pytest

from odin_ws.protocol.commands import Heartbeat, Reconnect, Subscribe, decode_command
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

HALF = "\ud83d"


def rejection(message: object) -> CommandError:
    """The error of a command, which can be answered."""
    with pytest.raises(CommandError) as caught:
        decode_command(json.dumps(message), CATALOGUE)
    answer = json.loads(error_response(caught.value))
    assert answer
    return caught.value


@pytest.mark.parametrize("data", [{"x": HALF}, {HALF: 1}, {"x": 10**400}, {"x": {"y": [HALF]}}])
def test_what_need_not_be_read_may_have_anything(data: object) -> None:
    """A heartbeat's data is not looked at."""
    text = json.dumps({"type": "heartbeat", "id": 7, "data": data})
    assert decode_command(text, CATALOGUE) == Heartbeat(7)
    text = '{"type":"heartbeat","id":7,"data":{"x":1e400}}'
    assert decode_command(text, CATALOGUE) == Heartbeat(7)


def test_a_client_id_is_not_read() -> None:
    """The SDK sends one."""
    message = {"type": "reconnect", "data": {"client_id": HALF, "last_pos": {}}}
    assert decode_command(json.dumps(message), CATALOGUE) == Reconnect(None, {})


def test_an_id_with_half_a_pair_comes_back() -> None:
    """As an escape: a browser finds the promise that waits for it."""
    command = decode_command(json.dumps({"type": "heartbeat", "id": f"a{HALF}"}), CATALOGUE)
    assert command == Heartbeat(f"a{HALF}")
    assert json.loads(pong(command.id, 1))["id"] == f"a{HALF}"
    assert rejection({"type": "nonsense", "id": HALF}).id == HALF


def test_a_name_with_half_a_pair_is_rejected_by_itself() -> None:
    """No record can have its channel; the good names beside it take effect, and all are told."""
    names = [f"{HALF}.trade", "BTC.trade", f"BTC.{HALF}", HALF, f"B{HALF}C.TRADING"]
    data = {"channels": names, "topics": ["odin.trades", HALF], "tokens": ["BTC", HALF]}
    command = decode_command(json.dumps({"type": "subscribe", "data": data}), CATALOGUE)
    assert isinstance(command, Subscribe)
    assert list(command.selection.wanted) == ["BTC.trade", "odin.trades"]
    accepted = Accepted(list(command.selection.wanted), command.selection.rejected, 2)
    for answer in (subscription_ack, unsubscription_ack):
        ack = json.loads(answer(command.id, Dialect.V1, accepted))
        rejected = [one["name"] for one in ack["rejected"]]
        assert sorted(rejected) == sorted([*names, HALF, HALF][:1] + names[2:] + [HALF, HALF])
        assert all(one["message"] for one in ack["rejected"])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"type": HALF}, "type: "),
        ({"type": "heartbeat", HALF: 1}, "a command: "),
        ({"type": "subscribe", "data": {"channels": [], HALF: 1}}, "data of subscribe: "),
        ({"type": "subscribe", "data": {"channels": [], "delivery": HALF}}, "data.delivery: "),
        ({"type": "resume", "data": {"channels": [], "positions": {HALF: {}}}}, "data.positions."),
        (
            {"type": "resume", "data": {"channels": [], "positions": {"odin.trades": {HALF: 1}}}},
            "data.positions.odin.trades: ",
        ),
        (
            {
                "type": "resume",
                "data": {"channels": [], "positions": {"odin.trades": {"0": 10**99}}},
            },
            "data.positions.odin.trades.0: ",
        ),
        ({"type": "reconnect", "data": {"last_pos": {f"{HALF}.trade": "0-1"}}}, "data.last_pos."),
        ({"type": "reconnect", "data": {"last_pos": {"BTC.trade": HALF}}}, "data.last_pos."),
        ({"type": "reconnect", "data": {"last_offset": {HALF: 1}}}, "data.last_offset."),
        ({"type": "auth", "data": {"token": HALF}}, "data.token: "),
        ({"type": "replay", "data": {"since": 10**400}}, "data.since: "),
    ],
    ids=ascii,
)
def test_what_has_to_be_read_is_told_with_its_field(message: object, field: str) -> None:
    """And the answer can be written."""
    error = rejection(message)
    assert error.code in {ErrorCode.INVALID_MESSAGE, ErrorCode.UNKNOWN_TYPE}
    assert error.message.startswith(field)
