"""Checks a running service from outside, step by step, as a client uses it."""

from __future__ import annotations

import ssl
import time
from functools import partial
from typing import Final
from urllib.parse import SplitResult, urlsplit

import attrs
import trio

from odin_ws.address import Address
from odin_ws.canary.probe import Target, try_service
from odin_ws.canary.steps import Step, StepFailed, TryResult
from odin_ws.cli.checks.findings import Findings

__all__ = ["InvalidUrl", "ServiceAddress", "check_service", "parse_url"]

_PORTS: Final = {"ws": 80, "wss": 443}

_DAY: Final = 86_400.0

# The check warns if the service's certificate expires within this number of days.
_EXPIRY_DAYS: Final = 14

_CLOCK_SECONDS: Final = 2.0

# Advice by the failed step.
_ACTIONS: Final = {
    Step.CONNECT: "check that the server runs (`/health/live`), its WS_ADDR, firewalls, DNS",
    Step.TLS: "check the certificate, its chain and its names; SSL_CERT_FILE names an authority of "
    "your own",
    Step.UPGRADE: "401 and 403: the token or the origin; 404: the path, which is /ws; 429 and 503: "
    "limits and overload; other answers are those of a proxy (docs/troubleshooting.md)",
    Step.SUBSCRIBE: "FORBIDDEN: name a channel that the token grants with --channel; "
    "INVALID_CHANNEL: one of the server's catalogue",
    Step.HEARTBEAT: "check `/health`, the server's CPU, and proxies that hold messages back",
    Step.CLOSE: "check for proxies that cut connections",
}


class InvalidUrl(ValueError):
    """The URL is not of a WebSocket server; the message says what is allowed."""


@attrs.frozen
class ServiceAddress:
    """The address of a service, from its URL."""

    host: str
    port: int
    path: str
    tls: bool

    @property
    def host_header(self) -> str:
        """The `Host` of requests: without the port if it is the scheme's own."""
        usual = _PORTS["wss" if self.tls else "ws"]
        text = str(Address(self.host, self.port))
        return text.removesuffix(f":{usual}")


def parse_url(text: str) -> ServiceAddress:
    """Parse `ws://…` or `wss://…`. Raises InvalidUrl."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        # Brackets without an address, or a port that is no number.
        url, port = urlsplit(""), 0
    if url.scheme not in _PORTS or not url.hostname or port == 0 or url.username is not None:
        raise InvalidUrl(f"{text}: must be ws://host:port/ws or wss://host:port/ws")
    return ServiceAddress(url.hostname, port or _PORTS[url.scheme], _path(url), url.scheme == "wss")


def _path(url: SplitResult) -> str:
    return (url.path or "/ws") + (f"?{url.query}" if url.query else "")


async def check_service(
    findings: Findings, address: ServiceAddress, channel: str, token: str | None, seconds: float
) -> None:
    """Connect, subscribe to a channel, send a heartbeat and close, within `seconds`."""
    target = Target(
        partial(trio.open_tcp_stream, address.host, address.port),
        channel,
        address.host_header,
        address.path,
        [] if token is None else [("Authorization", f"Bearer {token}")],
        ssl.create_default_context() if address.tls else None,
        address.host if address.tls else None,
    )
    result = TryResult()
    failure = None
    try:
        await try_service(target, result, seconds)
    except StepFailed as error:
        failure = error
    for step, took in result.times.items():
        findings.ok(f"service {step}", f"{1000 * took:.1f} ms")
    if failure is not None:
        findings.fail(f"service {failure.step}", failure.reason, _ACTIONS[failure.step])
    _check_certificate(findings, result.certificate_expires)
    _check_clock(findings, result.server_ms)


def _check_certificate(findings: Findings, expires: float | None) -> None:
    if expires is None:
        return
    days = (expires - time.time()) / _DAY
    text = f"valid for {days:.0f} days"
    if days < _EXPIRY_DAYS:
        findings.warn("service certificate", text, "renew it")
    else:
        findings.ok("service certificate", text)


def _check_clock(findings: Findings, server_ms: int | None) -> None:
    if server_ms is None:
        return
    ahead = server_ms / 1000 - time.time()
    text = f"the server's clock differs by {abs(ahead):.1f} s"
    if abs(ahead) > _CLOCK_SECONDS:
        findings.warn("service clock", text, "synchronise both (NTP): tokens expire by the clock")
    else:
        findings.ok("service clock", text)
