"""The canary: what it checks, that no client metric counts it, and what its credential opens."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from odin_ws.address import Address
from odin_ws.canary.credential import CANARY_HEADER, CanaryCredential
from odin_ws.canary.steps import Step
from odin_ws.settings import Secret, Settings
from odin_ws.testing.scenario import Scenario, open_scenario
from tests.jwt_issuer import jwt_settings
from tests.scenarios.ops import metric, metrics, ops_request
from tests.scenarios.wire import RawClient, request

SECRET = "5" * 64
CREDENTIAL = CanaryCredential(Secret(SECRET), Address("memory", 80), frozenset({"memory"}))
CREDENTIAL_HEADER = {CANARY_HEADER: SECRET}

# A check takes no virtual time.
MOMENT = 0.001


async def health(scenario: Scenario) -> dict[str, Any]:
    """Return the health report."""
    found: dict[str, Any] = (await ops_request(scenario, "/health")).json()
    return found


async def test_canary_checks_service_at_start_and_each_interval(autojump_clock: MockClock) -> None:
    """The first check begins at once, the next one after WS_CANARY_SECONDS."""
    async with open_scenario(Settings(ws_canary_seconds=10), credential=CREDENTIAL) as scenario:
        await trio.sleep(MOMENT)
        canary = scenario.service.canary
        assert (canary.tries, canary.failure) == (1, None)
        assert canary.seconds.keys() == {*Step} - {Step.TLS}
        await trio.sleep(10)
        assert canary.tries == 2
        assert await metric(scenario, "ws_canary_up") == 1
        assert await metric(scenario, "ws_canary_tries_total") == 2
        assert await metric(scenario, "ws_canary_failures_total") == 0
        assert (await health(scenario))["checks"]["canary"]["healthy"]


async def test_disabled_canary_has_no_metrics(autojump_clock: MockClock) -> None:
    """A gauge with value 0 would mean that the service fails."""
    async with open_scenario(Settings(ws_canary_seconds=0)) as scenario:
        await trio.sleep(100)
        names = {name for name, _ in await metrics(scenario)}
        assert not {"ws_canary_up", "ws_canary_step_seconds", "ws_canary_failures_total"} & names


# Metrics of clients, which a canary must not change.
NOT_COUNTED = {
    "ws_connections_total",
    "ws_connections_active",
    "ws_connections_failed_total",
    "ws_connections_pending",
    "ws_connection_duration_seconds_count",
    "ws_disconnects_total",
    "ws_messages_received_total",
    "ws_messages_sent_total",
    "ws_bytes_sent_total",
    "ws_bytes_received_total",
    "ws_subscribed_patterns",
    "ws_capacity_rejections_total",
    "ws_errors_total",
}


async def test_canary_is_not_counted_as_client(autojump_clock: MockClock) -> None:
    """It is in no metric of clients, in no list, and uses no limit."""
    async with open_scenario(credential=CREDENTIAL) as scenario:
        before = await metrics(scenario)
        await trio.sleep(300 + MOMENT)
        assert scenario.service.canary.tries == 11
        changed = {name for (name, _), value in (await metrics(scenario)).items() if value}
        assert {name for (name, _) in before} >= NOT_COUNTED
        assert changed & NOT_COUNTED == set()
        assert (await ops_request(scenario, "/clients")).json()["clients"] == []
        assert (await health(scenario))["checks"]["capacity"]["current"] == 0
        assert len(scenario.service.server.handshaker.rate_limiter) == 0


async def test_no_limit_rejects_the_canary(
    autojump_clock: MockClock,
) -> None:
    """Connections, rates, overload, tokens, origins, commands: each rejects other clients here."""
    settings = jwt_settings(
        ws_canary_seconds=5,
        ws_max_connections=1,
        ws_connect_rate=0.2,
        ws_connect_rate_per_ip=0.2,
        ws_max_connections_per_ip=1,
        ws_command_rate=0.1,
        ws_command_burst=1,
        ws_allowed_origins=("https://example.com",),
    )
    async with open_scenario(settings, credential=CREDENTIAL) as scenario:
        admission = scenario.service.server.admission
        admission.active = 1
        admission.overload = lambda: "memory"
        for _ in range(3):
            stranger = await RawClient.dial(scenario, request())
            await stranger.head()
            await stranger.stream.aclose()
        assert sum(admission.rejections.values()) == 3
        await trio.sleep(60 + MOMENT)
        canary = scenario.service.canary
        assert canary.tries >= 13
        assert canary.failures.total() == 0


async def test_failing_canary_degrades_health_until_next_success(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warning names the failed step; after a failure the next check begins after 5 s."""
    async with open_scenario(Settings(ws_canary_seconds=600), credential=CREDENTIAL) as scenario:
        handshaker = scenario.service.server.handshaker

        async def stuck(*_: object) -> None:
            await trio.sleep_forever()

        await trio.sleep(599)
        with monkeypatch.context() as patched:
            patched.setattr(handshaker, "read_request", stuck)
            await trio.sleep(1 + 10 + MOMENT)
            report = await health(scenario)
            assert report["status"] == "degraded"
            (warning,) = (warning for warning in report["warnings"] if warning.startswith("canary"))
            assert warning.startswith("canary: the step upgrade failed: not done after 10.0 s")
            assert await metric(scenario, "ws_canary_up") == 0
            assert await metric(scenario, "ws_canary_failures_total", step="upgrade") == 1
        await trio.sleep(5)
        report = await health(scenario)
        assert not [warning for warning in report["warnings"] if warning.startswith("canary")]
        assert await metric(scenario, "ws_canary_up") == 1


async def test_canary_credential_from_another_address_is_rejected(
    autojump_clock: MockClock,
) -> None:
    """A client with the credential and another address needs a token."""
    async with open_scenario(jwt_settings(), credential=CREDENTIAL) as scenario:
        stranger = await RawClient.dial(
            scenario, request(headers=CREDENTIAL_HEADER), peer="203.0.113.5"
        )
        assert (await stranger.head()).startswith(b"HTTP/1.1 401 ")
        await stranger.stream.aclose()


@pytest.mark.parametrize("credential", ["", "4" * 64, SECRET[:-1]])
async def test_wrong_canary_credential_gives_no_exemption(
    autojump_clock: MockClock, credential: str
) -> None:
    """Limits apply to the connection, and it needs a token."""
    settings = jwt_settings(ws_connect_rate_per_ip=0.2, ws_canary_seconds=3600)
    async with open_scenario(settings, credential=CREDENTIAL) as scenario:
        heads = []
        for _ in range(3):
            headers = {CANARY_HEADER: credential}
            stranger = await RawClient.dial(scenario, request(headers=headers))
            heads.append((await stranger.head()).split()[1])
            await stranger.stream.aclose()
        assert heads == [b"401", b"429", b"429"]


async def test_repeated_canary_header_is_rejected(autojump_clock: MockClock) -> None:
    """So is each header on which a decision depends."""
    async with open_scenario(credential=CREDENTIAL) as scenario:
        head = request(headers=CREDENTIAL_HEADER).replace(
            b"\r\n\r\n", b"\r\n%b: x\r\n\r\n" % CANARY_HEADER.encode()
        )
        stranger = await RawClient.dial(scenario, head)
        assert (await stranger.head()).startswith(b"HTTP/1.1 400 ")
        await stranger.stream.aclose()


async def test_canary_credential_is_limited_to_one_channel_and_15_s(
    autojump_clock: MockClock,
) -> None:
    """Also without authentication: a thief could read less than any client."""
    async with open_scenario(Settings(ws_canary_seconds=3600), credential=CREDENTIAL) as scenario:
        thief = await RawClient.open(scenario, headers=CREDENTIAL_HEADER)
        begun = trio.current_time()
        await thief.command("subscribe", channels=["BTC.trade", "*.*"], bundles=[])
        ack = (await thief.next()).json
        assert ack["subscribed"] == []
        assert {rejection["code"] for rejection in ack["rejected"]} == {"FORBIDDEN"}
        await thief.rest_bytes()
        assert trio.current_time() - begun == 15


async def test_canary_closes_before_the_drain(autojump_clock: MockClock) -> None:
    """Its end is not counted as a disconnect, and the drain does not wait for it."""
    async with open_scenario(Settings(ws_canary_seconds=1), credential=CREDENTIAL) as scenario:
        await trio.sleep(MOMENT)
        canary = scenario.service.canary
        begun, tries = trio.current_time(), canary.tries
        await scenario.drain()
        assert trio.current_time() - begun <= scenario.service.settings.ws_drain_delay_seconds
        assert (canary.tries, canary.failure) == (tries, None)
        assert scenario.service.server.stats.closed.total() == 0


async def test_record_on_canary_channel_is_no_failure(autojump_clock: MockClock) -> None:
    """The canary's token is its own, but any publisher could use it."""
    async with open_scenario(Settings(ws_canary_seconds=1), credential=CREDENTIAL) as scenario:
        client = await scenario.connect()
        await client.subscribe(channels=["*.trade"])
        scenario.publish("odin-ws-canary", "trade", {"price": 1})
        assert (await client.message())["channel"] == "odin-ws-canary.trade"
        await trio.sleep(3)
        assert scenario.service.canary.failures.total() == 0
