"""`auth` gives a live connection the grant of a new token, and takes away what it does not have."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from odin_ws.testing.scenario import Scenario, ScenarioClient
from tests.jwt_issuer import TOKENS_ARE_ASKED_FOR, Issuer
from tests.scenarios.auth.asking import come, token
from tests.scenarios.ops import metric

pytestmark = TOKENS_ARE_ASKED_FOR


async def fault(client: ScenarioClient, text: str) -> tuple[str, str]:
    """Code and sentence of what a new token is rejected with."""
    said = await client.command("auth", token=text)
    assert said["type"] == "auth_error"
    return said["data"]["code"], said["data"]["message"]


async def test_a_new_token_is_acknowledged_with_its_end(odin_scenario: Scenario) -> None:
    """In epoch seconds, as the SDK wants it; the id is echoed."""
    client = await come(odin_scenario)
    renewed = token(100, exp=2_000_000_000)
    await client.send(f'{{"type":"auth","id":"a","data":{{"token":"{renewed}"}}}}')
    assert await client.answer() == {
        "type": "auth_ack",
        "id": "a",
        "data": {"exp": 2_000_000_000},
    }


async def test_more_can_be_granted(odin_scenario: Scenario) -> None:
    """It counts for commands that come after; what is subscribed goes on."""
    client = await come(odin_scenario, channels=["*.trade"])
    await client.subscribe(channels=["*.trade"])
    assert (await client.subscribe(channels=["BTC.balances"]))["rejected"]
    assert (await client.command("auth", token=token(channels=["*.*"])))["type"] == "auth_ack"
    assert (await client.subscribe(channels=["BTC.balances"]))["count"] == 2
    odin_scenario.publish("BTC", "balances")
    odin_scenario.publish("BTC", "trade")
    assert {one["channel"] for one in await client.messages(2)} == {"BTC.balances", "BTC.trade"}


async def test_what_is_granted_no_more_is_ended_and_told(odin_scenario: Scenario) -> None:
    """Before the ack, so that the client knows what the new token costs it; then nothing comes."""
    client = await come(odin_scenario, channels=["*.*"])
    await client.subscribe(channels=["*.*", "BTC.*", "BTC.trade", "*.social"])
    await client.send(
        f'{{"type":"auth","data":{{"token":"{token(channels=["*.trade", "*.social"])}"}}}}'
    )
    assert await client.answer() == {
        "type": "unsubscription_ack",
        "unsubscribed": ["*.*", "BTC.*"],
        "rejected": [],
        "count": 2,
        "forced": True,
    }
    assert (await client.answer())["type"] == "auth_ack"
    for category in ("balances", "liquidity", "trade", "social"):
        odin_scenario.publish("BTC", category)
    assert {one["channel"] for one in await client.messages(2)} == {"BTC.trade", "BTC.social"}
    assert await client.silence(5)


async def test_a_replay_is_cut_to_what_is_granted(odin_scenario: Scenario) -> None:
    """What was on its way when the token changed does not come."""
    odin_scenario.publish("BTC", "balances")
    odin_scenario.publish("BTC", "trade")
    await trio.sleep(1)
    client = await come(odin_scenario, channels=["*.*"])
    odin_scenario.log_reader.hold()
    names = '["BTC.balances","BTC.trade"]'
    await client.send(f'{{"type":"subscribe","data":{{"channels":{names},"since_ms":0}}}}')
    await trio.sleep(1)
    forced = await client.command("auth", token=token())
    assert (forced["unsubscribed"], forced["count"]) == (["BTC.balances"], 1)
    odin_scenario.log_reader.release()
    assert (await client.answer())["type"] == "auth_ack"
    assert (await client.answer())["subscribed"] == ["BTC.trade"]
    assert (await client.message())["channel"] == "BTC.trade"
    assert await client.silence(5)


async def test_what_is_granted_no_more_is_not_sent_again(odin_scenario: Scenario) -> None:
    """`replay` brings nothing of a subscription that the new token has ended."""
    client = await come(odin_scenario, channels=["*.*"])
    await client.subscribe(channels=["BTC.balances", "BTC.trade"])
    odin_scenario.publish("BTC", "balances")
    await client.message()
    await client.command("auth", token=token())
    await client.answer()
    said = await client.command("replay", since=0)
    assert (said["type"], said["count"], said["missing"]) == ("replay_incomplete", 0, [1, 1])
    assert await client.silence(1)


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        ("nonsense", "invalid_token", "the token is not valid"),
        (Issuer("HS256", "x" * 32).token(), "invalid_token", "the token is not valid"),
        (token(-100), "token_expired", "the token has expired"),
        (token(sub="bob"), "forbidden", "the token is another user's"),
        (token(sub="bob", channels=["*.*"]), "forbidden", "the token is another user's"),
    ],
    ids=["nonsense", "forged", "old", "another user's", "another user's, with more"],
)
async def test_a_token_that_is_rejected_changes_nothing(
    odin_scenario: Scenario, bad: str, code: str, message: str
) -> None:
    """Neither what is granted nor when it ends; the connection goes on."""
    client = await come(odin_scenario, 60, channels=["*.trade"])
    await client.subscribe(channels=["*.trade"])
    assert await fault(client, bad) == (code, message)
    assert (await client.subscribe(channels=["*.balances"]))["rejected"]
    odin_scenario.publish("BTC", "trade")
    assert (await client.message())["channel"] == "BTC.trade"
    assert (await client.closed()).code == 4401
    assert await metric(odin_scenario, "ws_jwt_rejected_total") == 1


async def test_too_many_bad_tokens_close(odin_scenario: Scenario) -> None:
    """As too many of any bad commands do: nobody can try tokens for ever on one connection."""
    client = await come(odin_scenario)
    for _ in range(50):
        await client.send('{"type":"auth","data":{"token":"guess"}}')
    assert (await client.closed()).code == 1008


async def test_a_command_without_a_token_is_an_auth_error(odin_scenario: Scenario) -> None:
    """The SDK waits for nothing else."""
    client = await come(odin_scenario)
    said: dict[str, Any] = await client.command("auth")
    assert (said["type"], said["data"]["code"]) == ("auth_error", "invalid_message")
