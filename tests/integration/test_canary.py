"""The canary on a real port, with every setting that rejects strangers."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from websockets.exceptions import InvalidStatus
from websockets.trio.client import connect

from odin_ws.canary.credential import CANARY_HEADER
from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.running_source import until
from tests.integration.servers import Server, serving, with_constants
from tests.jwt_issuer import SECRET
from tests.listener.certificates import Authority

STRICT: Final = {
    "WS_CANARY_SECONDS": "1",
    "WS_AUTH": "jwt",
    "WS_JWT_SECRET": SECRET,
    "WS_ALLOWED_ORIGINS": "https://example.com",
    "WS_CONNECT_RATE": "0.01",
    "WS_CONNECT_RATE_PER_IP": "0.01",
    "WS_MAX_CONNECTIONS_PER_IP": "1",
    "WS_MAX_CONNECTIONS": "2",
}


@pytest.fixture
def nowhere() -> str:
    """An address without a broker: the canary does not depend on Kafka."""
    return f"{LOOPBACK}:{free_ports(1)[0]}"


async def canary_of(server: Server) -> dict[str, Any]:
    """The canary's check in health; nothing before a worker has answered."""
    report = await server.health()
    found: dict[str, Any] = report.get("checks", {}).get("canary", {"tries": 0, "healthy": False})
    return found


async def tried(server: Server, tries: int) -> dict[str, Any]:
    """Wait until `tries` tries have ended; return the check in health."""

    async def enough() -> bool:
        return bool((await canary_of(server))["tries"] >= tries)

    await until(enough)
    return await canary_of(server)


@pytest.mark.parametrize("proxied", [False, True])
async def test_canary_passes_every_rule_for_strangers(
    nowhere: str, tmp_path: Path, *, proxied: bool
) -> None:
    """TLS, tokens, origins, rates, PROXY headers: each step is timed; no counter has the canary."""
    authority = Authority(tmp_path)
    tls = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}
    proxy = {"WS_PROXY_PROTOCOL": "required", "WS_TRUSTED_PROXIES": "10.0.0.0/8"}
    settings = STRICT | tls | (proxy if proxied else {})
    async with serving(nowhere, settings, ready=False) as server:
        report = await tried(server, 3)
        assert report["failures"] == 0, report
        steps = {"connect", "tls", "upgrade", "subscribe", "heartbeat", "close"}
        assert report["milliseconds"].keys() == steps
        for step in steps:
            assert 0 < await server.metric("ws_canary_step_seconds", step=step) < 5
        assert await server.metric("ws_connections_total") == 0
        assert await server.metric("ws_connections_failed_total") == 0
        assert await server.metric("ws_disconnects_total") == 0
        server.signal(signal.SIGTERM)
        assert await server.ended() == 0


@pytest.mark.parametrize("host", ["", "[::1]", "localhost"])
async def test_canary_reaches_every_kind_of_address(nowhere: str, host: str) -> None:
    """On every interface, at an address of IPv6, under a name."""
    (port,) = free_ports(1)
    settings = {"WS_ADDR": f"{host}:{port}", "WS_CANARY_SECONDS": "1"}
    async with serving(nowhere, settings, ready=False) as server:
        assert (await tried(server, 1))["failures"] == 0


async def test_canary_accepts_a_renewed_certificate(nowhere: str, tmp_path: Path) -> None:
    """After SIGHUP the canary accepts the certificate that is served then, and no other."""
    authority = Authority(tmp_path)
    tls = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}
    async with serving(nowhere, STRICT | tls, ready=False) as server:
        await tried(server, 1)
        authority.issue()
        server.signal(signal.SIGHUP)
        await until(lambda: _true(server.events("certificate reloaded")))
        before = (await canary_of(server))["tries"]
        assert (await tried(server, before + 2))["failures"] == 0


async def _true(value: object) -> bool:
    await trio.lowlevel.checkpoint()
    return bool(value)


async def test_workers_accept_the_canary_of_another_worker() -> None:
    """The kernel gives a connection to any worker; only workers know the credential."""
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap)
        settings = STRICT | {"WS_WORKERS": "2"}
        async with serving(broker.bootstrap, settings) as server:
            # That one of them is never met happens once in a thousand runs.
            report = await tried(server, 20)
            assert report["failures"] == 0, report
            assert await server.metric("ws_canary_up") == 1
            assert await server.metric("ws_connections_total") == 0
            with pytest.raises(InvalidStatus):
                async with connect(
                    f"ws://{LOOPBACK}:{server.port}/ws",
                    proxy=None,
                    additional_headers={CANARY_HEADER: "5" * 64},
                ):
                    pass


async def test_unserved_port_degrades_health(nowhere: str) -> None:
    """One of two workers is stopped: the kernel alone accepts its connections."""
    settings = {"WS_WORKERS": "2", "WS_CANARY_SECONDS": "1"}
    # A try that fails would take 10 s.
    short = with_constants({"odin_ws.canary.runner.TRY_SECONDS": 2})
    async with serving(nowhere, settings | short, ready=False) as server:
        await tried(server, 4)
        workers = (await server.health())["workers"]
        stopped = workers["1"]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        try:

            async def degraded() -> bool:
                warnings = (await server.health())["warnings"]
                return any("canary: the step upgrade failed" in warning for warning in warnings)

            await until(degraded, 60)
        finally:
            # The supervisor may have replaced it by now.
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)

        async def recovered() -> bool:
            return bool((await canary_of(server))["healthy"])

        await until(recovered, 60)
