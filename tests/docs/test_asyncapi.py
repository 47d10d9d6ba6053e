"""docs/asyncapi.yaml describes exactly what the code does."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft7Validator

from odin_ws.catalogue import default_catalogue
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Delivery
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.wire_format import Frames
from odin_ws.resume import LossReason
from tests.docs.asyncapi import read_asyncapi
from tests.docs.pages import ROOT
from tests.docs.parsing import command_fields, commands

API = read_asyncapi()
SCHEMAS = API.document["components"]["schemas"]


def data_fields(command: str) -> set[str] | None:
    """The described fields of a command's data; None if any field is accepted."""
    data = API.messages("receive")[command]["payload"]["properties"]["data"]
    forms = data.get("oneOf", [data])
    return {field for form in forms for field in form.get("properties", ())} or None


def test_every_reference_has_a_target() -> None:
    """Every reference has a target."""

    def look(value: Any) -> None:
        if isinstance(value, dict):
            API.follow(value)
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(API.document)


def test_every_payload_is_a_valid_schema() -> None:
    """Each is valid by JSON Schema's own schema."""
    for message in API.document["components"]["messages"].values():
        Draft7Validator.check_schema(message["payload"])
    for schema in SCHEMAS.values():
        Draft7Validator.check_schema(schema)


def test_every_message_is_sent_or_received() -> None:
    """Each described message is in the channel, and in an operation or its reply."""
    described = API.document["components"]["messages"]
    channel = API.document["channels"]["ws"]["messages"]
    assert [API.follow(one) for one in channel.values()] == list(described.values())
    used = [*API.messages("receive").values(), *API.messages("send").values()]
    assert all(message in used for message in described.values())


def test_every_command_is_described() -> None:
    """Every command is described, with all its fields."""
    assert list(API.messages("receive")) == commands()
    for command in commands():
        assert data_fields(command) == command_fields(command), command


def test_every_response_is_described() -> None:
    """Every kind of response and notice that the code writes is described, and each message."""
    code = ROOT / "src" / "odin_ws" / "protocol"
    responses = re.findall(
        r'_(?:response|ack)\(\s*"(\w+)"', (code / "responses.py").read_text("utf-8")
    )
    messages = re.findall(r'"type":"([\w:]+)"', (code / "envelope.py").read_text("utf-8"))
    assert set(responses) > {"subscription_ack", "error", "feed"}
    assert API.messages("send").keys() == {*responses, *messages, "batch"}


@pytest.mark.parametrize(
    ("schema", "values"),
    [("code", ErrorCode), ("reason", LossReason), ("delivery", Delivery), ("frames", Frames)],
)
def test_enumerations_are_those_of_the_code(
    schema: str, values: type[ErrorCode | LossReason | Delivery | Frames]
) -> None:
    """Error codes, reasons and kinds of delivery are those of the code, in its order."""
    assert SCHEMAS[schema]["enum"] == list(values)


def test_server_messages_accept_unknown_fields() -> None:
    """Clients ignore unknown fields, so no schema of a server message rejects any."""

    def look(value: Any) -> None:
        value = API.follow(value)
        if isinstance(value, dict):
            assert value.get("additionalProperties") is not False, value
        for inner in value.values() if isinstance(value, dict) else ():
            look(inner)
        for inner in value if isinstance(value, list) else ():
            look(inner)

    for message in API.messages("send").values():
        look(message["payload"])


def test_close_codes_are_those_of_the_code() -> None:
    """The close codes are those of the code."""
    assert API.document["channels"]["ws"]["x-closes"] == [
        {"code": one.code, "label": one.label, "by": one.by}
        for one in sorted((close.value for close in DisconnectReason), key=lambda one: one.code)
    ]


GOOD = [
    {"type": "subscribe", "id": 1, "data": {"channels": ["BTC.trade"], "positions": True}},
    {"type": "subscribe", "id": "a", "data": {"topics": ["odin.trades"], "tokens": ["BTC"]}},
    {"type": "subscribe", "data": {"bundles": ["ALL"], "delivery": "latest", "since_ms": 0}},
    {"type": "subscribe", "data": {"channels": ["*.*"], "frames": "batch"}},
    {"type": "resume", "data": {"channels": [], "positions": {}, "frames": "single"}},
    {"type": "resume", "data": {"channels": ["*.*"], "positions": {"odin.trades": {"0": -1}}}},
    {"type": "resume", "data": {"channels": [], "positions": {}, "ids": {"odin.trades": "a"}}},
    {"type": "resume", "data": {"channels": [], "positions": {}, "snapshot": True}},
    {"type": "reconnect", "data": {"last_pos": {"BTC.trade": "0-17"}}},
    {"type": "replay", "data": {"from": 1, "to": 1}},
    {"type": "replay", "data": {"since": 0}},
    {"type": "unsubscribe", "data": {"channels": ["BTC.trade"]}},
    {"type": "auth", "data": {"token": "t"}},
    {"type": "heartbeat"},
    {"type": "heartbeat", "data": {"any": "thing"}},
]

BAD = [
    {"type": "subscribe", "data": {}},
    {"type": "subscribe", "id": 1.5, "data": {"channels": []}},
    {"type": "subscribe", "id": "x" * 129, "data": {"channels": []}},
    {"type": "subscribe", "data": {"channels": "BTC.trade"}},
    {"type": "subscribe", "data": {"channels": [], "since_ms": -1}},
    {"type": "subscribe", "data": {"channels": [], "delivery": "some"}},
    {"type": "subscribe", "data": {"channels": [], "frames": "some"}},
    {"type": "resume", "data": {"channels": [], "positions": {}, "frames": True}},
    {"type": "subscribe", "data": {"tokens": ["BTC"]}},
    {"type": "subscribe", "data": {"channels": ["BTC.trade"] * 1025}},
    {"type": "resume", "data": {"channels": ["BTC.trade"]}},
    {"type": "resume", "data": {"channels": [], "positions": {"odin.trades": {"00": 1}}}},
    {"type": "resume", "data": {"channels": [], "positions": {"odin.trades": {"0": -2}}}},
    {"type": "resume", "data": {"positions": {}, "channels": [], "ids": {"odin.trades": ""}}},
    {"type": "resume", "data": {"channels": [], "positions": {}, "ids": {"odin.trades": 5}}},
    {"type": "resume", "data": {"channels": [], "positions": {}, "ids": []}},
    {"type": "reconnect", "data": {}},
    {"type": "reconnect", "data": {"last_pos": {"BTC.trade": "17"}}},
    {"type": "replay", "data": {"from": 1}},
    {"type": "replay", "data": {"from": 0, "to": 1}},
    {"type": "replay", "data": {"since": 1, "to": 2}},
    {"type": "unsubscribe", "data": {"channels": [], "positions": True}},
    {"type": "heartbeat", "more": 1},
    {"type": "auth"},
    {"type": "auth", "data": {"token": 7}},
]


@pytest.mark.parametrize("command", GOOD, ids=json.dumps)
def test_commands_valid_by_the_schema_are_accepted(command: dict[str, Any]) -> None:
    """The server accepts every command that the schema accepts."""
    text = json.dumps(command)
    assert API.problem(text, "receive") is None
    decode_command(text, default_catalogue())


@pytest.mark.parametrize("command", BAD, ids=lambda command: json.dumps(command)[:80])
def test_commands_invalid_by_the_schema_are_rejected(command: dict[str, Any]) -> None:
    """The server rejects every command that the schema rejects."""
    text = json.dumps(command)
    assert API.problem(text, "receive") is not None
    with pytest.raises(CommandError):
        decode_command(text, default_catalogue())
