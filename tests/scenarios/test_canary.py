"""The server tries itself: what the canary finds, that nothing counts it, and who it is not."""

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
from tests.scenarios.ops import ask, metric, metrics
from tests.scenarios.wire import RawClient, request

SECRET = "5" * 64
CREDENTIAL = CanaryCredential(Secret(SECRET), Address("memory", 80), frozenset({"memory"}))
SHOWN = {CANARY_HEADER: SECRET}

# A try takes no virtual time.
A_MOMENT = 0.001


async def health(scenario: Scenario) -> dict[str, Any]:
    """The health report."""
    found: dict[str, Any] = (await ask(scenario, "/health")).json()
    return found


async def test_the_canary_tries_the_service_from_its_start_on(autojump_clock: MockClock) -> None:
    """At once, and then every WS_CANARY_SECONDS."""
    async with open_scenario(Settings(ws_canary_seconds=10), credential=CREDENTIAL) as scenario:
        await trio.sleep(A_MOMENT)
        canary = scenario.service.canary
        assert (canary.tries, canary.failure) == (1, None)
        assert canary.seconds.keys() == {*Step} - {Step.TLS}
        await trio.sleep(10)
        assert canary.tries == 2
        assert await metric(scenario, "ws_canary_up") == 1
        assert await metric(scenario, "ws_canary_tries_total") == 2
        assert await metric(scenario, "ws_canary_failures_total") == 0
        assert (await health(scenario))["checks"]["canary"]["healthy"]


async def test_without_a_canary_there_is_nothing_to_alert_of(autojump_clock: MockClock) -> None:
    """A gauge that is 0 would say that the service cannot be used."""
    async with open_scenario(Settings(ws_canary_seconds=0)) as scenario:
        await trio.sleep(100)
        names = {name for name, _ in await metrics(scenario)}
        assert not {"ws_canary_up", "ws_canary_step_seconds", "ws_canary_failures_total"} & names


# What a canary must not change; it asks for two things and is gone.
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


async def test_the_canary_is_no_client(autojump_clock: MockClock) -> None:
    """No metric of clients counts it, no list has it, no limit is used up by it."""
    async with open_scenario(credential=CREDENTIAL) as scenario:
        before = await metrics(scenario)
        await trio.sleep(300 + A_MOMENT)
        assert scenario.service.canary.tries == 11
        changed = {name for (name, _), value in (await metrics(scenario)).items() if value}
        assert {name for (name, _) in before} >= NOT_COUNTED
        assert changed & NOT_COUNTED == set()
        assert (await ask(scenario, "/clients")).json()["clients"] == []
        assert (await health(scenario))["checks"]["capacity"]["current"] == 0
        assert len(scenario.service.server.handshaker.rate_limiter) == 0


async def test_no_limit_that_a_crowd_reaches_keeps_the_canary_out(
    autojump_clock: MockClock,
) -> None:
    """Connections, rates, overload, tokens, origins, commands: each would reject a stranger."""
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
        await trio.sleep(60 + A_MOMENT)
        canary = scenario.service.canary
        assert canary.tries >= 13
        assert canary.failures.total() == 0


async def test_a_service_that_answers_nobody_is_degraded_and_recovers(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health names the step in words; the next try comes after 5 s, whatever the interval."""
    async with open_scenario(Settings(ws_canary_seconds=600), credential=CREDENTIAL) as scenario:
        handshaker = scenario.service.server.handshaker

        async def stuck(*_: object) -> None:
            await trio.sleep_forever()

        await trio.sleep(599)
        with monkeypatch.context() as patched:
            patched.setattr(handshaker, "read_request", stuck)
            await trio.sleep(1 + 10 + A_MOMENT)
            report = await health(scenario)
            assert report["status"] == "degraded"
            (warning,) = (one for one in report["warnings"] if one.startswith("canary"))
            assert warning.startswith("canary: the step upgrade failed: not done after 10.0 s")
            assert await metric(scenario, "ws_canary_up") == 0
            assert await metric(scenario, "ws_canary_failures_total", step="upgrade") == 1
        await trio.sleep(5)
        report = await health(scenario)
        assert not [one for one in report["warnings"] if one.startswith("canary")]
        assert await metric(scenario, "ws_canary_up") == 1


async def test_the_credential_opens_nothing_from_elsewhere(autojump_clock: MockClock) -> None:
    """Whoever had it and came from another address is a client without a token."""
    async with open_scenario(jwt_settings(), credential=CREDENTIAL) as scenario:
        stranger = await RawClient.dial(scenario, request(headers=SHOWN), peer="203.0.113.5")
        assert (await stranger.head()).startswith(b"HTTP/1.1 401 ")
        await stranger.stream.aclose()


@pytest.mark.parametrize("shown", ["", "4" * 64, SECRET[:-1]])
async def test_another_credential_is_that_of_a_client(
    autojump_clock: MockClock, shown: str
) -> None:
    """It is held to every limit, and asked for its token."""
    settings = jwt_settings(ws_connect_rate_per_ip=0.2, ws_canary_seconds=3600)
    async with open_scenario(settings, credential=CREDENTIAL) as scenario:
        heads = []
        for _ in range(3):
            headers = {CANARY_HEADER: shown}
            stranger = await RawClient.dial(scenario, request(headers=headers))
            heads.append((await stranger.head()).split()[1])
            await stranger.stream.aclose()
        assert heads == [b"401", b"429", b"429"]


async def test_the_credential_is_given_once_or_not_at_all(autojump_clock: MockClock) -> None:
    """As with every header that decides something."""
    async with open_scenario(credential=CREDENTIAL) as scenario:
        head = request(headers=SHOWN).replace(
            b"\r\n\r\n", b"\r\n%b: x\r\n\r\n" % CANARY_HEADER.encode()
        )
        stranger = await RawClient.dial(scenario, head)
        assert (await stranger.head()).startswith(b"HTTP/1.1 400 ")
        await stranger.stream.aclose()


async def test_the_credential_is_good_for_one_channel_and_some_seconds(
    autojump_clock: MockClock,
) -> None:
    """Also where nobody is asked for a token: who had it would read less than anybody."""
    async with open_scenario(Settings(ws_canary_seconds=3600), credential=CREDENTIAL) as scenario:
        thief = await RawClient.open(scenario, headers=SHOWN)
        begun = trio.current_time()
        await thief.command("subscribe", channels=["BTC.trade", "*.*"], bundles=[])
        ack = (await thief.next()).json
        assert ack["subscribed"] == []
        assert {one["code"] for one in ack["rejected"]} == {"FORBIDDEN"}
        await thief.rest_bytes()
        assert trio.current_time() - begun == 15


async def test_the_canary_leaves_before_the_drain(autojump_clock: MockClock) -> None:
    """Its end is nobody's disconnect, and the drain does not wait for it."""
    async with open_scenario(Settings(ws_canary_seconds=1), credential=CREDENTIAL) as scenario:
        await trio.sleep(A_MOMENT)
        canary = scenario.service.canary
        begun, tries = trio.current_time(), canary.tries
        await scenario.drain()
        assert trio.current_time() - begun <= scenario.service.settings.ws_drain_delay_seconds
        assert (canary.tries, canary.failure) == (tries, None)
        assert scenario.service.server.stats.closed.total() == 0


async def test_the_canary_subscribes_where_nothing_else_is(autojump_clock: MockClock) -> None:
    """Records of its token would be read by it alone, and are no failure."""
    async with open_scenario(Settings(ws_canary_seconds=1), credential=CREDENTIAL) as scenario:
        client = await scenario.connect()
        await client.subscribe(channels=["*.trade"])
        scenario.publish("odin-ws-canary", "trade", {"price": 1})
        assert (await client.message())["channel"] == "odin-ws-canary.trade"
        await trio.sleep(3)
        assert scenario.service.canary.failures.total() == 0
