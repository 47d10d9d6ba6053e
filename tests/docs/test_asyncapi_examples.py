"""Names, titles and examples of docs/asyncapi.yaml, from which generators make code and pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from jsonschema import Draft7Validator

from odin_ws.catalogue import default_catalogue
from odin_ws.protocol.command_parser import decode_command
from odin_ws.testing.conformance import Case, Outcome, Result, play_case
from odin_ws_client import Subscription
from odin_ws_client.trio import open_client
from tests.docs.asyncapi import read_asyncapi
from tests.docs.pages import ROOT

API = read_asyncapi()
COMPONENTS = API.document["components"]
MESSAGES = COMPONENTS["messages"]
CHANNEL = API.document["channels"]["ws"]
HANDSHAKE = "\n".join(
    path.read_text("utf-8") for path in (ROOT / "src" / "odin_ws" / "handshake").glob("*.py")
)

# Messages that must precede the example on a client's connection.
SUBSCRIBED: list[dict[str, Any]] = [
    {"client": {"type": "subscribe"}},
    {
        "server": {
            "type": "subscription_ack",
            "id": 0,
            "subscribed": ["*.trade"],
            "rejected": [],
            "count": 1,
            "positions": {"odin.trades": {}},
            "categories": {"trade": "odin.trades"},
        }
    },
]
ENDED: dict[str, Any] = {"end": [1000, "the case has ended"]}


def examples(action: str) -> list[Any]:
    """The examples of what the server receives or sends, each with its name."""
    return [
        pytest.param(example["payload"], id=f"{message['name']}-{example['name']}")
        for message in API.messages(action).values()
        for example in message["examples"]
    ]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """The objects with fields of their own in a schema."""
    if isinstance(schema, dict):
        if "properties" in schema and "$ref" not in schema:
            yield schema
        for name, inner in schema.items():
            if name != "examples":
                yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("name", MESSAGES)
def test_message_has_name_title_summary_and_examples(name: str) -> None:
    """A generated page has a heading and a sentence for each."""
    message = MESSAGES[name]
    assert message["name"] == name
    assert message["title"]
    assert message["summary"].endswith(".")
    assert message["examples"]


@pytest.mark.parametrize("name", COMPONENTS["schemas"])
def test_schema_has_title_and_examples(name: str) -> None:
    """Its examples are valid by the schema."""
    schema = COMPONENTS["schemas"][name]
    assert schema["title"]
    validator = Draft7Validator({**API.document, **schema})
    for example in schema["examples"]:
        validator.validate(example)


def test_alternatives_are_types_of_their_own() -> None:
    """Of alternatives without type and title, such as only `required`, generators make any type.

    @asyncapi/modelina 5 made `data: any | any | any` of the data of subscribe.
    """
    alternatives: list[Any] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name in ("anyOf", "oneOf"):
                    alternatives.extend(API.follow(one) for one in inner)
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(API.document["components"])
    assert alternatives
    named = {"title", "type", "enum", "const"}
    untyped = [alternative for alternative in alternatives if not named & alternative.keys()]
    assert untyped == []


def test_every_object_has_a_title_of_its_own() -> None:
    """Generated code has no class AnonymousSchema_17, and no two classes of one name."""
    found = [one for message in MESSAGES.values() for one in objects(message["payload"])]
    found += objects(COMPONENTS["schemas"])
    # Commands share the schema of their names' lists, which stands in the document once.
    titles = [one.get("title") for one in found]
    assert None not in titles, [one for one in found if "title" not in one]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("payload", examples("receive"))
def test_example_of_a_command_can_be_decoded(payload: dict[str, Any]) -> None:
    """The example is valid, and the server decodes it."""
    text = json.dumps(payload)
    assert API.problem(text, "receive") is None
    decode_command(text, default_catalogue())


@pytest.mark.parametrize("payload", examples("send"))
async def test_example_of_a_response_can_be_received(payload: dict[str, Any]) -> None:
    """The example is valid, and our client accepts it on a connection, except version 0."""
    assert API.problem(json.dumps(payload), "send") is None
    if payload["type"] == "price:update":
        return
    case = Case("example", "", {"channels": ["*.trade"]}, [*SUBSCRIBED, {"server": payload}, ENDED])

    async def run(url: str, subscription: Any, _deliver: Any, _requests: Any) -> None:
        async with open_client(url, Subscription(**subscription)) as client:
            async for _ in client:
                pass

    assert await play_case(case, run, deliveries=False) == Outcome(case, Result.OK)


def test_query_fields_are_those_that_the_server_reads() -> None:
    """The binding of the channel has them."""
    described = CHANNEL["bindings"]["ws"]["query"]["properties"]
    assert set(described) == set(re.findall(r'\.query(?:\.get\(|\[)"(\w+)"', HANDSHAKE))


def test_rejections_are_those_of_the_handshake() -> None:
    """It has every status with which the code answers a handshake, in order."""
    used = {HTTPStatus[name].value for name in re.findall(r"HTTPStatus\.([A-Z_]+)", HANDSHAKE)}
    used -= {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT}
    assert [one["status"] for one in CHANNEL["x-rejections"]] == sorted(used)


def test_ways_to_send_a_token_are_security_schemes() -> None:
    """Header, subprotocol and query, of which the server accepts any."""
    schemes = [API.follow(one) for one in API.document["servers"]["instance"]["security"]]
    assert schemes == list(COMPONENTS["securitySchemes"].values())
    assert [scheme.get("name", scheme.get("scheme")) for scheme in schemes] == [
        "bearer",
        "Sec-WebSocket-Protocol",
        "token",
    ]
