"""`auth` replaces the grant of a connection by that of a new token, and ends subscriptions."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.jwt_issuer import TOKENS_ARE_ASKED_FOR, Issuer
from tests.scenarios.auth.handshakes import connect, token
from tests.scenarios.ops import metric

pytestmark = TOKENS_ARE_ASKED_FOR


async def fault(client: ScenarioClient, text: str) -> tuple[str, str]:
    """Return code and message of the error for this token."""
    error = await client.command("auth", token=text)
    assert error["type"] == "auth_error"
    return error["data"]["code"], error["data"]["message"]


async def test_auth_ack_has_expiry_of_new_token(odin_scenario: Scenario) -> None:
    """In epoch seconds, as the SDK expects; the id is echoed."""
    client = await connect(odin_scenario)
    renewed = token(100, exp=2_000_000_000)
    await client.send(f'{{"type":"auth","id":"a","data":{{"token":"{renewed}"}}}}')
    assert await client.response() == {
        "type": "auth_ack",
        "id": "a",
        "data": {"exp": 2_000_000_000},
    }


async def test_new_token_can_grant_more(odin_scenario: Scenario) -> None:
    """The grant applies to later commands; existing subscriptions continue."""
    client = await connect(odin_scenario, channels=["*.trade"])
    await client.subscribe(channels=["*.trade"])
    assert (await client.subscribe(channels=["BTC.balances"]))["rejected"]
    assert (await client.command("auth", token=token(channels=["*.*"])))["type"] == "auth_ack"
    assert (await client.subscribe(channels=["BTC.balances"]))["count"] == 2
    odin_scenario.publish("BTC", "balances")
    odin_scenario.publish("BTC", "trade")
    assert {message["channel"] for message in await client.messages(2)} == {
        "BTC.balances",
        "BTC.trade",
    }


async def test_new_token_ends_subscriptions_that_it_does_not_grant(odin_scenario: Scenario) -> None:
    """A forced unsubscription_ack lists them before the auth_ack; no message of them follows."""
    client = await connect(odin_scenario, channels=["*.*"])
    await client.subscribe(channels=["*.*", "BTC.*", "BTC.trade", "*.social"])
    await client.send(
        f'{{"type":"auth","data":{{"token":"{token(channels=["*.trade", "*.social"])}"}}}}'
    )
    assert await client.response() == {
        "type": "unsubscription_ack",
        "unsubscribed": ["*.*", "BTC.*"],
        "rejected": [],
        "count": 2,
        "forced": True,
    }
    assert (await client.response())["type"] == "auth_ack"
    for category in ("balances", "liquidity", "trade", "social"):
        odin_scenario.publish("BTC", category)
    assert {message["channel"] for message in await client.messages(2)} == {
        "BTC.trade",
        "BTC.social",
    }
    assert await client.silence(5)


async def test_new_token_removes_channels_from_running_replay(odin_scenario: Scenario) -> None:
    """The replay continues with the channels that the new token grants."""
    odin_scenario.publish("BTC", "balances")
    odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    client = await connect(odin_scenario, channels=["*.*"])
    odin_scenario.log_reader.hold()
    names = '["BTC.balances","BTC.trade"]'
    await client.send(f'{{"type":"subscribe","data":{{"channels":{names},"since_ms":0}}}}')
    await trio.sleep(1)
    forced = await client.command("auth", token=token())
    assert (forced["unsubscribed"], forced["count"]) == (["BTC.balances"], 1)
    odin_scenario.log_reader.release()
    assert (await client.response())["type"] == "auth_ack"
    assert (await client.response())["subscribed"] == ["BTC.trade"]
    assert (await client.message())["channel"] == "BTC.trade"
    assert await client.silence(5)


async def test_resend_omits_channels_that_new_token_does_not_grant(odin_scenario: Scenario) -> None:
    """`replay` reports their sequence numbers as missing."""
    client = await connect(odin_scenario, channels=["*.*"])
    await client.subscribe(channels=["BTC.balances", "BTC.trade"])
    odin_scenario.publish("BTC", "balances")
    await client.message()
    await client.command("auth", token=token())
    await client.response()
    response = await client.command("replay", since=0)
    assert (response["type"], response["count"], response["missing"]) == (
        "replay_incomplete",
        0,
        [1, 1],
    )
    assert await client.silence(1)


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        ("nonsense", "invalid_token", "the token is not valid"),
        (Issuer("HS256", "x" * 32).token(), "invalid_token", "the token is not valid"),
        (token(-100), "token_expired", "the token has expired"),
        (token(sub="bob"), "forbidden", "the token belongs to another user"),
        (token(sub="bob", channels=["*.*"]), "forbidden", "the token belongs to another user"),
    ],
    ids=["nonsense", "forged", "old", "another user's", "another user's, with more"],
)
async def test_rejected_token_changes_nothing(
    odin_scenario: Scenario, bad: str, code: str, message: str
) -> None:
    """The connection keeps its grant and its expiry."""
    client = await connect(odin_scenario, 60, channels=["*.trade"])
    await client.subscribe(channels=["*.trade"])
    assert await fault(client, bad) == (code, message)
    assert (await client.subscribe(channels=["*.balances"]))["rejected"]
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["channel"] == "BTC.trade"
    assert (await client.closed()).code == 4401
    assert await metric(odin_scenario, "ws_jwt_rejected_total") == 1


async def test_50_invalid_tokens_close_1008(odin_scenario: Scenario) -> None:
    """So a connection cannot try tokens forever."""
    client = await connect(odin_scenario)
    for _ in range(50):
        await client.send('{"type":"auth","data":{"token":"guess"}}')
    assert (await client.closed()).code == 1008


async def test_auth_without_token_gets_auth_error(odin_scenario: Scenario) -> None:
    """The SDK waits for this type only."""
    client = await connect(odin_scenario)
    error: dict[str, Any] = await client.command("auth")
    assert (error["type"], error["data"]["code"]) == ("auth_error", "invalid_message")
