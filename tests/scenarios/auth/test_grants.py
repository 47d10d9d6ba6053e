"""A subscription never brings more than the token grants, in whatever way it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.settings import Secret
from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.jwt_issuer import SECRET, TOKENS_ARE_ASKED_FOR
from tests.scenarios.auth.asking import come, token
from tests.scenarios.tables import EVENTS

pytestmark = TOKENS_ARE_ASKED_FOR

TRADES = {"odin.trades": dict.fromkeys(range(12), -1)}
ALL = {f"odin.{topic}": dict.fromkeys(range(12), -1) for topic in ("trades", "balances")}

# Every command that begins something, with names.
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
    """One record of two tokens in every category, and let them be delivered."""
    for category in EVENTS:
        for name in ("BTC", "ETH"):
            scenario.publish(name, category)
    await trio.sleep(1)


async def received(client: ScenarioClient) -> set[str]:
    """The channels of all that has come, and comes in a second."""
    found = set()
    with trio.move_on_after(1):
        while True:
            found.add((await client.message())["channel"])
    return found


def rejected(ack: dict[str, Any]) -> dict[str, str]:
    """The rejected names with their sentences; all of them are FORBIDDEN."""
    assert {one["code"] for one in ack["rejected"]} <= {"FORBIDDEN"}
    return {one["name"]: one["message"] for one in ack["rejected"]}


@every_command
async def test_what_is_not_granted_is_rejected_by_name(
    odin_scenario: Scenario, command: str
) -> None:
    """Others of the same command take effect, in the past and live."""
    kind, options = COMMANDS[command]
    await publish(odin_scenario)
    client = await come(odin_scenario, channels=["BTC.*", "*.trade"])
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
async def test_no_name_brings_a_private_category(
    odin_scenario: Scenario, command: str, names: dict[str, list[str]]
) -> None:
    """Without a grant nothing of it comes, live or past, and the answer says what is missing."""
    kind, options = COMMANDS[command]
    await publish(odin_scenario)
    client = await come(odin_scenario)
    ack = await client.command(kind, **names, **options)
    assert ack["subscribed"] == []
    ((_, message),) = rejected(ack).items()
    assert message.startswith("not granted: ")
    assert "balances" in message
    await publish(odin_scenario)
    assert await received(client) == set()
    assert len(odin_scenario.service.hub.index) == 0


async def test_a_token_without_channels_brings_all_the_rest(odin_scenario: Scenario) -> None:
    """By pattern and by bundle."""
    client = await come(odin_scenario)
    names = [f"*.{category}" for category in EVENTS if category != "balances"]
    assert (await client.subscribe(channels=[*names, "TRADING"]))["rejected"] == []
    await publish(odin_scenario)
    assert await received(client) == {
        f"{name}.{category}"
        for category in EVENTS
        for name in ("BTC", "ETH")
        if category != "balances"
    }


async def test_a_reconnect_is_granted_as_a_whole_or_not(odin_scenario: Scenario) -> None:
    """Its answer knows no names: with one that is not granted, nothing begins."""
    client = await come(odin_scenario)
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
    """Here it is another one."""
    client = await come(odin_scenario)
    ack = await client.subscribe(channels=["*.balances", "*.social"])
    assert rejected(ack) == {"*.social": "not granted: *.social"}


@pytest.mark.parametrize(("claim", "maximum"), [(2, 2), (0, 0), (5, 3), (None, 3)])
@pytest.mark.odin_settings(ws_max_subscriptions=3, ws_auth="jwt", ws_jwt_secret=Secret(SECRET))
async def test_a_token_can_lower_the_limit(
    odin_scenario: Scenario, claim: int | None, maximum: int
) -> None:
    """Of subscriptions, and never raise it; the sentence has the limit that holds."""
    client = await come(odin_scenario, max_subscriptions=claim)
    ack = await client.subscribe(channels=[f"T{number}.trade" for number in range(5)])
    assert ack["count"] == maximum
    assert {(one["code"], one["message"]) for one in ack["rejected"]} == {
        ("TOO_MANY_SUBSCRIPTIONS", f"at most {maximum} subscriptions per connection")
    }
    again = await client.command(
        "reconnect", last_pos={f"U{number}.trade": "0-0" for number in range(4)}
    )
    assert again["message"] == f"at most {maximum} subscriptions per connection"


async def test_what_waits_is_judged_when_its_turn_comes(odin_scenario: Scenario) -> None:
    """A command that was granted when it came is not, if the token has changed meanwhile."""
    await publish(odin_scenario)
    client = await come(odin_scenario, channels=["*.trade", "*.balances"])
    odin_scenario.log_reader.hold()
    await client.send('{"type":"subscribe","id":1,"data":{"channels":["*.trade"],"since_ms":0}}')
    await client.send('{"type":"subscribe","id":2,"data":{"channels":["BTC.balances"]}}')
    await client.command("auth", token=token(channels=["*.trade"]))
    odin_scenario.log_reader.release()
    first, second = await client.answer(), await client.answer()
    assert (first["id"], first["subscribed"]) == (1, ["*.trade"])
    assert (second["id"], rejected(second)) == (2, {"BTC.balances": "not granted: BTC.balances"})
