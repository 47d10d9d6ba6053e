"""The issuer rotates its key while its users are connected."""

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
from tests.scenarios.auth.handshakes import bearer, handshake

OLD: Final = issuer("ES256", "old")
NEW: Final = issuer("EdDSA", "new")

# The least time between two readings of the key set, in seconds: docs/auth.md.
FLOOR: Final = 10.0


def publish(path: Path, *keys: Issuer) -> None:
    """Replace the keys of the set."""
    path.write_text(json.dumps({"keys": [key.jwk for key in keys]}))


async def test_rotated_key_is_accepted_and_clients_stay_connected(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """First both keys are valid, then only the new one; clients of the old one stay connected.

    They present a token of the new key with `auth`.
    """
    path = tmp_path / "jwks.json"
    publish(path, OLD)
    async with open_scenario(Settings(ws_auth="jwt", ws_jwks=path)) as scenario:
        early = await scenario.connect(token=OLD.token())
        await early.subscribe(channels=["BTC.trade"])
        assert (await handshake(scenario, headers=bearer(NEW.token()))).status == 401

        publish(path, OLD, NEW)
        await trio.sleep(FLOOR)
        late = await scenario.connect(token=NEW.token())
        await late.subscribe(channels=["BTC.trade"])
        assert (await handshake(scenario, headers=bearer(OLD.token()))).status == 101

        publish(path, NEW)
        await trio.sleep(scenario.service.settings.ws_jwks_interval_seconds * 1.2)
        assert (await handshake(scenario, headers=bearer(OLD.token()))).status == 401
        assert (await early.command("auth", token=OLD.token()))["type"] == "auth_error"
        assert (await early.command("auth", token=NEW.token()))["type"] == "auth_ack"
        for number in range(3):
            scenario.publish("BTC", "trade", number)
        for client in (early, late):
            assert [message["seq"] for message in await client.messages(3)] == [1, 2, 3]


async def test_token_of_unknown_key_is_accepted_after_advised_retries(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Each error has a retry delay; after at most two readings of the key set it is accepted."""
    path = tmp_path / "jwks.json"
    publish(path, OLD)
    async with open_scenario(Settings(ws_auth="jwt", ws_jwks=path)) as scenario:
        client = await scenario.connect(token=OLD.token())
        publish(path, OLD, NEW)
        began = trio.current_time()
        response = await client.command("auth", token=NEW.token())
        assert (response["type"], response["data"]["code"]) == ("auth_error", "not_available")
        while response["type"] == "auth_error":
            assert 2_000 <= response["data"]["retry_ms"] <= 10_000
            assert trio.current_time() - began < 2 * FLOOR + 10
            await trio.sleep(response["data"]["retry_ms"] / 1000)
            response = await client.command("auth", token=NEW.token())
        assert response["type"] == "auth_ack"
