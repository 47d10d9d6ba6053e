"""docs/asyncapi.yaml says what the code does, and nothing else."""

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
    """The fields of a command's data as described; None where any will do."""
    data = API.messages("receive")[command]["payload"]["properties"]["data"]
    forms = data.get("oneOf", [data])
    return {field for form in forms for field in form.get("properties", ())} or None


def test_every_reference_leads_somewhere() -> None:
    """Nothing is described by a name that nobody gave."""

    def look(value: Any) -> None:
        if isinstance(value, dict):
            API.follow(value)
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(API.document)


def test_every_payload_is_a_schema() -> None:
    """Each is one that JSON Schema's own schema allows."""
    for message in API.document["components"]["messages"].values():
        Draft7Validator.check_schema(message["payload"])
    for schema in SCHEMAS.values():
        Draft7Validator.check_schema(schema)


def test_every_message_is_sent_or_received() -> None:
    """What is described is in the channel, and in an operation or its reply."""
    described = API.document["components"]["messages"]
    channel = API.document["channels"]["ws"]["messages"]
    assert [API.follow(one) for one in channel.values()] == list(described.values())
    used = [*API.messages("receive").values(), *API.messages("send").values()]
    assert all(message in used for message in described.values())


def test_commands() -> None:
    """Every command is described, with the fields that it may have."""
    assert list(API.messages("receive")) == commands()
    for command in commands():
        assert data_fields(command) == command_fields(command), command


def test_answers() -> None:
    """Every kind of answer and notice that the code writes is described, and each message."""
    code = ROOT / "src" / "odin_ws" / "protocol"
    answers = re.findall(
        r'_(?:response|ack)\(\s*"(\w+)"', (code / "responses.py").read_text("utf-8")
    )
    messages = re.findall(r'"type":"([\w:]+)"', (code / "envelope.py").read_text("utf-8"))
    assert set(answers) > {"subscription_ack", "error", "feed"}
    assert API.messages("send").keys() == {*answers, *messages, "batch"}


@pytest.mark.parametrize(
    ("schema", "values"),
    [("code", ErrorCode), ("reason", LossReason), ("delivery", Delivery), ("frames", Frames)],
)
def test_words(schema: str, values: type[ErrorCode | LossReason | Delivery | Frames]) -> None:
    """Error codes, reasons and kinds of delivery are those of the code, in its order."""
    assert SCHEMAS[schema]["enum"] == list(values)


def test_what_the_server_sends_is_open() -> None:
    """Clients ignore unknown fields, so no schema of what the server sends rejects any."""

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


def test_closes() -> None:
    """The closes are those of the code, by their numbers."""
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
def test_good_commands(command: dict[str, Any]) -> None:
    """What is described can be read."""
    text = json.dumps(command)
    assert API.problem(text, "receive") is None
    decode_command(text, default_catalogue())


@pytest.mark.parametrize("command", BAD, ids=lambda command: json.dumps(command)[:80])
def test_bad_commands(command: dict[str, Any]) -> None:
    """What is not described is rejected."""
    text = json.dumps(command)
    assert API.problem(text, "receive") is not None
    with pytest.raises(CommandError):
        decode_command(text, default_catalogue())
