"""Metrics of tokens and keys."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import trio
from trio.testing import MockClock

from odin_ws.auth.faults import JwtFault
from odin_ws.auth.revocations import Revocation
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.jwt_issuer import TOKENS_ARE_ASKED_FOR, Issuer, issuer, jwt_settings
from tests.scenarios.auth.handshakes import bearer, connect, handshake, token
from tests.scenarios.ops import metric, metrics
from tests.scenarios.ops import ops_request as page


@TOKENS_ARE_ASKED_FOR
async def test_rejected_tokens_are_counted_by_reason(odin_scenario: Scenario) -> None:
    """Each reason has a sample from the start."""
    labels = {
        dict(labels)["reason"]
        for name, labels in await metrics(odin_scenario)
        if name == "ws_jwt_rejected_total"
    }
    assert labels == set(JwtFault)
    jwt_verifier = odin_scenario.service.server.authenticator.jwt_verifier
    assert jwt_verifier is not None
    client = await connect(odin_scenario)
    jwt_verifier.revoke(Revocation(user="eve"), 4_000_000_000)
    expected = {
        "malformed": "x",
        "algorithm": issuer("ES256").token(),
        "signature": Issuer("HS256", "x" * 32).token(),
        "expired": token(-100),
        "audience": token(aud="x"),
        "claims": token(channels=1),
        "revoked": token(sub="eve"),
    }
    for reason, text in expected.items():
        await handshake(odin_scenario, headers=bearer(text))
        assert await metric(odin_scenario, "ws_jwt_rejected_total", reason=reason) == 1, reason
    await client.command("auth", token=token(sub="bob"))
    assert await metric(odin_scenario, "ws_jwt_rejected_total", reason="other_user") == 1
    assert await metric(odin_scenario, "ws_revocations") == 1


async def test_number_of_keys_and_reads_of_key_set_are_counted(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """If the key set cannot be read, the last keys stay valid."""
    del autojump_clock
    file = tmp_path / "jwks.json"
    old, new = issuer("ES256", "old"), issuer("RS256", "new")
    file.write_bytes(orjson.dumps({"keys": [old.jwk]}))
    settings = jwt_settings(ws_jwks=file, ws_jwks_interval_seconds=60)
    async with open_scenario(settings) as scenario:
        assert await metric(scenario, "ws_jwt_keys") == 1
        file.write_bytes(orjson.dumps({"keys": [old.jwk, new.jwk]}))
        await trio.sleep(70)
        assert await metric(scenario, "ws_jwt_keys") == 2
        assert (await handshake(scenario, headers=bearer(new.token()))).status == 101
        reads = await metric(scenario, "ws_jwks_reads_total", result="read")
        assert reads >= 2
        file.unlink()
        await trio.sleep(140)
        assert await metric(scenario, "ws_jwks_reads_total", result="failed") >= 1
        assert await metric(scenario, "ws_jwt_keys") == 2
        assert (await handshake(scenario, headers=bearer(new.token()))).status == 101


@pytest.mark.odin_settings(ws_auth="jwt", ws_jwks="http://127.0.0.1:1/jwks.json")
async def test_instance_without_keys_is_not_ready(odin_scenario: Scenario) -> None:
    """It could verify no token; a client gets 503 with a Retry-After."""
    jwt_verifier = odin_scenario.service.server.authenticator.jwt_verifier
    assert jwt_verifier is not None
    assert jwt_verifier.jwks is not None
    response = await page(odin_scenario, "/health/ready")
    assert (response.status_code, response.text) == (
        503,
        "not ready: the JWT keys are not loaded yet\n",
    )
    rejected = await handshake(odin_scenario, headers=bearer(token()))
    assert (rejected.status, rejected.body) == (
        503,
        "the server has no keys to verify tokens yet; retry\n",
    )
    assert "retry-after" in rejected.headers
