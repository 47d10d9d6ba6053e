"""GET /snapshot: the last message of each channel, and where to go on behind it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import trio

from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario
from tests.http_api.event_source import EventSource, sse_request
from tests.jwt_issuer import SECRET, issuer
from tests.scenarios.wire import RawClient

PAGE = "https://app.example.com"


def snapshot_request(query: str, **headers: str) -> bytes:
    """A request for a snapshot."""
    return sse_request(query, headers, path="/snapshot")


async def response(
    scenario: Scenario, query: str, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of an answer."""
    client = await RawClient.dial(scenario, snapshot_request(query, **headers))
    status, *fields = (await client.head()).decode("ascii").split("\r\n")
    found = dict(field.split(": ", 1) for field in fields)
    content = await client.rest_bytes()
    assert len(content) == int(found["Content-Length"])
    return int(status.split()[1]), found, content


async def snapshot(scenario: Scenario, query: str) -> dict[str, Any]:
    """The object of a snapshot."""
    status, headers, content = await response(scenario, query)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = json.loads(content)
    return found


async def publish_some(scenario: Scenario) -> None:
    """Two channels of trades, one of them with several messages, and one of another category."""
    for n in range(3):
        scenario.publish("BTC", "trade", n)
    scenario.publish("ETH", "trade", "eth")
    scenario.publish("BTC", "social", "social")
    await trio.sleep(1)


async def test_last_message_of_each_channel(odin_scenario: Scenario) -> None:
    """As it stands in a batch."""
    await publish_some(odin_scenario)
    found = await snapshot(odin_scenario, "channels=*.trade")
    messages = {message["channel"]: message for message in found["messages"]}
    assert messages.keys() == {"BTC.trade", "ETH.trade"}
    assert messages["BTC.trade"].keys() == {"channel", "pos", "ts", "data"}
    assert messages["BTC.trade"]["data"]["data"] == 2
    assert found["categories"] == {"trade": "odin.trades"}
    assert odin_scenario.service.server.http.requests == Counter({"snapshot": 1})


async def test_snapshot_of_nothing_has_positions(odin_scenario: Scenario) -> None:
    """A channel without a message, in a log without a record."""
    found = await snapshot(odin_scenario, "channels=BTC.trade")
    assert found["messages"] == []
    assert set(found["positions"]["odin.trades"].values()) == {-1}


async def test_positions_resume_exactly_behind_it(odin_scenario: Scenario) -> None:
    """Over a WebSocket with positions, and as Server-Sent Events with the id."""
    await publish_some(odin_scenario)
    found = await snapshot(odin_scenario, "channels=*.trade")
    odin_scenario.publish("ETH", "trade", "new")
    await trio.sleep(1)
    client = await odin_scenario.connect()
    ack = await client.resume(found["positions"], ids=found["ids"], channels=["*.trade"])
    assert (ack["recovered"], ack["replayed"]) == (True, 1)
    assert (await client.message())["data"]["data"] == "new"
    query = {"channels": "*.trade", "last_event_id": found["event_id"]}
    source = await EventSource.open(odin_scenario, query)
    assert (await source.event()).json["replayed"] == 1
    assert [message.json["data"]["data"] for message in await source.messages(1)] == ["new"]


async def test_invalid_names_of_a_snapshot_are_reported(odin_scenario: Scenario) -> None:
    """Beside those that are."""
    found = await snapshot(odin_scenario, "channels=*.trade,BTC.nope")
    assert [rejection["name"] for rejection in found["rejected"]] == ["BTC.nope"]
    assert list(found["positions"]) == ["odin.trades"]


@pytest.mark.parametrize(
    "query", ["", "channels=nope", "channels=*.trade&snapshot=true", "channels=*.trade&since_ms=1"]
)
async def test_invalid_snapshot_request_is_rejected(odin_scenario: Scenario, query: str) -> None:
    """It has names, and nothing of a subscription."""
    status, _, content = await response(odin_scenario, query)
    assert (status, content.count(b"\n")) == (400, 1)


@pytest.mark.odin_settings(ws_send_queue_bytes=4096)
async def test_large_snapshot_is_rejected(odin_scenario: Scenario) -> None:
    """It is made in memory; a subscription sends as much as the client reads."""
    for n in range(10):
        odin_scenario.publish(f"T{n}", "trade", "x" * 1000)
    await trio.sleep(1)
    status, _, content = await response(odin_scenario, "channels=*.trade")
    assert status == 400
    assert b"a snapshot of 10 channels would have" in content
    assert len((await snapshot(odin_scenario, "channels=T1.trade,T2.trade"))["messages"]) == 2
    assert odin_scenario.service.server.admission.rejections == Counter({"snapshot_too_large": 1})


async def test_so_many_at_once_and_slow_readers_are_cut_off(odin_scenario: Scenario) -> None:
    """Those that do not read are gone after WS_WRITE_TIMEOUT_SECONDS, and then there is room."""
    odin_scenario.publish("BTC", "trade", "x" * 10_000)
    await trio.sleep(1)
    for _ in range(16):
        stream = await odin_scenario.dial(capacity=1000)
        await stream.send_all(snapshot_request("channels=*.trade"))
    await trio.sleep(1)
    status, headers, _ = await response(odin_scenario, "channels=*.trade")
    assert (status, "Retry-After" in headers) == (503, True)
    assert odin_scenario.service.server.admission.active == 16
    await trio.sleep(10)
    assert odin_scenario.service.server.admission.active == 0
    assert len((await snapshot(odin_scenario, "channels=*.trade"))["messages"]) == 1


async def test_server_without_memory_makes_no_snapshot(odin_scenario: Scenario) -> None:
    """Nobody's memory grows for it."""
    await publish_some(odin_scenario)
    odin_scenario.service.server.admission.budget.remaining = 40_000
    odin_scenario.publish("BTC", "trade", "x" * 100_000)
    await trio.sleep(0.2)
    status, _, content = await response(odin_scenario, "channels=*.trade")
    assert (status, content) == (503, b"the server is short of memory\n")


@pytest.mark.odin_settings(ws_auth="jwt", ws_jwt_secret=Secret(SECRET), ws_allowed_origins=(PAGE,))
async def test_snapshot_needs_token_and_origin(odin_scenario: Scenario) -> None:
    """As a stream does; what is not granted is rejected by name."""
    await publish_some(odin_scenario)
    token = issuer("HS256").token(channels=["BTC.*"])
    assert (await response(odin_scenario, "channels=BTC.trade"))[0] == 401
    bearer = {"Authorization": f"Bearer {token}"}
    other = {**bearer, "Origin": "https://evil.example.net"}
    assert (await response(odin_scenario, "channels=BTC.trade", **other))[0] == 403
    assert (await response(odin_scenario, "channels=ETH.trade", **bearer))[0] == 403
    status, headers, content = await response(
        odin_scenario, "channels=BTC.trade,ETH.trade", **bearer, Origin=PAGE
    )
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    found = json.loads(content)
    assert [message["channel"] for message in found["messages"]] == ["BTC.trade"]
    assert [(rejection["name"], rejection["code"]) for rejection in found["rejected"]] == [
        ("ETH.trade", "FORBIDDEN")
    ]
