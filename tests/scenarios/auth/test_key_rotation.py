"""The issuer changes its key while its users are connected."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import trio
from trio.testing import MockClock

from odin_ws.settings import Settings
from odin_ws.testing.scenario import open_scenario
from tests.jwt_issuer import Issuer, issuer
from tests.scenarios.auth.asking import ask, bearer

OLD: Final = issuer("ES256", "old")
NEW: Final = issuer("EdDSA", "new")

# Between two readings of the set at least; docs/auth.md.
FLOOR: Final = 10.0


def publish(path: Path, *keys: Issuer) -> None:
    """Put these keys into the set, and no others."""
    path.write_text(json.dumps({"keys": [one.jwk for one in keys]}))


async def test_a_new_key_is_taken_without_a_restart_and_nobody_is_dropped(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """First both keys are good, then the new one alone; who came with the old one stays.

    He changes to the new one by `auth`, where he is.
    """
    path = tmp_path / "jwks.json"
    publish(path, OLD)
    async with open_scenario(Settings(ws_auth="jwt", ws_jwks=path)) as scenario:
        early = await scenario.connect(token=OLD.token())
        await early.subscribe(channels=["BTC.trade"])
        assert (await ask(scenario, headers=bearer(NEW.token()))).status == 401

        publish(path, OLD, NEW)
        await trio.sleep(FLOOR)
        late = await scenario.connect(token=NEW.token())
        await late.subscribe(channels=["BTC.trade"])
        assert (await ask(scenario, headers=bearer(OLD.token()))).status == 101

        publish(path, NEW)
        await trio.sleep(scenario.service.settings.ws_jwks_interval_seconds * 1.2)
        assert (await ask(scenario, headers=bearer(OLD.token()))).status == 401
        assert (await early.command("auth", token=OLD.token()))["type"] == "auth_error"
        assert (await early.command("auth", token=NEW.token()))["type"] == "auth_ack"
        for number in range(3):
            scenario.publish("BTC", "trade", number)
        for client in (early, late):
            assert [one["seq"] for one in await client.messages(3)] == [1, 2, 3]


async def test_token_of_an_unknown_key_is_taken_when_sent_again_as_advised(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each answer says when to send it again; within two readings of the keys it is taken."""
    path = tmp_path / "jwks.json"
    publish(path, OLD)
    async with open_scenario(Settings(ws_auth="jwt", ws_jwks=path)) as scenario:
        client = await scenario.connect(token=OLD.token())
        publish(path, OLD, NEW)
        began = trio.current_time()
        said = await client.command("auth", token=NEW.token())
        assert (said["type"], said["data"]["code"]) == ("auth_error", "not_available")
        while said["type"] == "auth_error":
            assert 2_000 <= said["data"]["retry_ms"] <= 10_000
            assert trio.current_time() - began < 2 * FLOOR + 10
            await trio.sleep(said["data"]["retry_ms"] / 1000)
            said = await client.command("auth", token=NEW.token())
        assert said["type"] == "auth_ack"
