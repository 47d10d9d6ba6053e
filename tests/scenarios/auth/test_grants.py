"""No command delivers a channel that the token does not grant."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR
from tests.scenarios.auth.handshakes import connect, token
from tests.scenarios.protocol_tables import EVENTS

pytestmark = TOKENS_ARE_ASKED_FOR

TRADES = {"odin.trades": dict.fromkeys(range(12), -1)}
ALL = {f"odin.{topic}": dict.fromkeys(range(12), -1) for topic in ("trades", "balances")}

# Each kind of subscription.
COMMANDS: dict[str, tuple[str, dict[str, Any]]] = {
    "subscribe": ("subscribe", {}),
    "positions": ("subscribe", {"positions": True}),
    "snapshot": ("subscribe", {"snapshot": True}),
    "since": ("subscribe", {"since_ms": 0}),
    "latest": ("subscribe", {"delivery": "latest"}),
    "resume": ("resume", {"positions": ALL}),
}

every_command = pytest.mark.parametrize("command", COMMANDS)


async def publish(scenario: Scenario) -> None:
    """Publish one record of two tokens in each category, and wait until they are delivered."""
    for category in EVENTS:
        for name in ("BTC", "ETH"):
            scenario.publish(name, category)
    await trio.sleep(1)


async def received(client: ScenarioClient) -> set[str]:
    """Return the channels of the messages received until a second has passed."""
    found = set()
    with trio.move_on_after(1):
        while True:
            found.add((await client.message())["channel"])
    return found


def rejected(ack: dict[str, Any]) -> dict[str, str]:
    """Return the rejected names with their messages; all have the code FORBIDDEN."""
    assert {rejection["code"] for rejection in ack["rejected"]} <= {"FORBIDDEN"}
    return {rejection["name"]: rejection["message"] for rejection in ack["rejected"]}


@every_command
async def test_name_without_grant_is_rejected_and_others_take_effect(
    odin_scenario: Scenario, command: str
) -> None:
    """Replayed and live messages are those of the granted names."""
    kind, options = COMMANDS[command]
    await publish(odin_scenario)
    client = await connect(odin_scenario, channels=["BTC.*", "*.trade"])
    names = ["BTC.balances", "ETH.balances", "*.trade", "*.balances", "ETH.*"]
    ack = await client.command(kind, channels=names, **options)
    assert ack["subscribed"] == ["BTC.balances", "*.trade"]
    assert rejected(ack) == {
        "ETH.balances": "not granted: ETH.balances",
        "*.balances": "not granted: *.balances",
        "ETH.*": "not granted: ETH.liquidity, ETH.metadata, ETH.social, ETH.community and 3 more",
    }
    assert ack["count"] == 2
    await publish(odin_scenario)
    assert await received(client) == {"BTC.balances", "BTC.trade", "ETH.trade"}


@every_command
@pytest.mark.parametrize(
    "names",
    [
        {"channels": ["*.*"]},
        {"channels": ["ALL"]},
        {"channels": ["PORTFOLIO"]},
        {"channels": ["BTC.*"]},
        {"channels": ["BTC.PORTFOLIO"]},
        {"channels": ["*.PORTFOLIO"]},
        {"channels": ["*.balances"]},
        {"channels": ["BTC.balances"]},
        {"bundles": ["PORTFOLIO"]},
        {"bundles": ["ALL"], "tokens": ["BTC", "ETH"]},
        {"topics": ["odin.balances"]},
        {"topics": ["odin.balances"], "tokens": ["BTC"]},
    ],
    ids=str,
)
async def test_private_category_without_grant_is_rejected(
    odin_scenario: Scenario, command: str, names: dict[str, list[str]]
) -> None:
    """Patterns, bundles and topics that contain it are rejected, with the missing grant."""
    kind, options = COMMANDS[command]
    await publish(odin_scenario)
    client = await connect(odin_scenario)
    ack = await client.command(kind, **names, **options)
    assert ack["subscribed"] == []
    ((_, message),) = rejected(ack).items()
    assert message.startswith("not granted: ")
    assert "balances" in message
    await publish(odin_scenario)
    assert await received(client) == set()
    assert len(odin_scenario.service.hub.index) == 0


async def test_token_without_channels_grants_all_public_categories(odin_scenario: Scenario) -> None:
    """By pattern and by bundle."""
    client = await connect(odin_scenario)
    names = [f"*.{category}" for category in EVENTS if category != "balances"]
    assert (await client.subscribe(channels=[*names, "TRADING"]))["rejected"] == []
    await publish(odin_scenario)
    assert await received(client) == {
        f"{name}.{category}"
        for category in EVENTS
        for name in ("BTC", "ETH")
        if category != "balances"
    }


async def test_reconnect_with_one_channel_without_grant_is_rejected(
    odin_scenario: Scenario,
) -> None:
    """Its response has no list of rejected names, so it is rejected as a whole."""
    client = await connect(odin_scenario)
    error = await client.command("reconnect", last_pos={"BTC.trade": "0-0", "BTC.balances": "0-0"})
    assert error == {
        "type": "reconnect_error",
        "code": "forbidden",
        "message": "not granted: BTC.balances",
    }
    assert len(odin_scenario.service.hub.index) == 0
    assert (await client.command("reconnect", last_pos={"BTC.trade": "0-0"}))["type"] == (
        "reconnect_ack"
    )


@pytest.mark.odin_settings(
    ws_private_categories=("social",), ws_auth="jwt", ws_jwt_secret=Secret(SECRET)
)
async def test_private_categories_are_a_setting(odin_scenario: Scenario) -> None:
    """Here `social` is private, and `balances` is not."""
    client = await connect(odin_scenario)
    ack = await client.subscribe(channels=["*.balances", "*.social"])
    assert rejected(ack) == {"*.social": "not granted: *.social"}


@pytest.mark.parametrize(("claim", "maximum"), [(2, 2), (0, 0), (5, 3), (None, 3)])
@pytest.mark.odin_settings(ws_max_subscriptions=3, ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
async def test_claim_can_lower_max_subscriptions(
    odin_scenario: Scenario, claim: int | None, maximum: int
) -> None:
    """It cannot raise the limit; the rejections have the limit in force."""
    client = await connect(odin_scenario, max_subscriptions=claim)
    ack = await client.subscribe(channels=[f"T{number}.trade" for number in range(5)])
    assert ack["count"] == maximum
    assert {(rejection["code"], rejection["message"]) for rejection in ack["rejected"]} == {
        ("TOO_MANY_SUBSCRIPTIONS", f"at most {maximum} subscriptions per connection")
    }
    again = await client.command(
        "reconnect", last_pos={f"U{number}.trade": "0-0" for number in range(4)}
    )
    assert again["message"] == f"at most {maximum} subscriptions per connection"


async def test_pending_command_is_authorized_when_it_is_processed(odin_scenario: Scenario) -> None:
    """The token changes while the command waits for a replay."""
    await publish(odin_scenario)
    client = await connect(odin_scenario, channels=["*.trade", "*.balances"])
    odin_scenario.log_reader.hold()
    await client.send('{"type":"subscribe","id":1,"data":{"channels":["*.trade"],"since_ms":0}}')
    await client.send('{"type":"subscribe","id":2,"data":{"channels":["BTC.balances"]}}')
    await client.command("auth", token=token(channels=["*.trade"]))
    odin_scenario.log_reader.release()
    first, second = await client.response(), await client.response()
    assert (first["id"], first["subscribed"]) == (1, ["*.trade"])
    assert (second["id"], rejected(second)) == (2, {"BTC.balances": "not granted: BTC.balances"})
