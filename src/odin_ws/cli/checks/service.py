"""Checks a running service from outside, step by step, as a client uses it."""

from __future__ import annotations

import os
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

__all__ = [
    "InvalidUrl",
    "ServiceAddress",
    "action",
    "check_authority",
    "check_service",
    "parse_url",
]

_PORTS: Final = {"ws": 80, "wss": 443}

_DAY: Final = 86_400.0

# The check warns if the service's certificate expires within this number of days.
_EXPIRY_DAYS: Final = 14

_CLOCK_SECONDS: Final = 2.0

# The operator's action for each failed step. Some reasons and statuses have their own action, which
# replaces those of TLS and UPGRADE.
_ACTIONS: Final = {
    Step.CONNECT: "check that the server runs (`/health/live`), its WS_ADDR, firewalls, DNS",
    Step.TLS: "check what listens at the address; wss:// needs WS_TLS_CERT or a proxy with TLS",
    Step.UPGRADE: "check the address: this answer is not one of odin-ws, but of a proxy or of "
    "another server",
    Step.SUBSCRIBE: "check that odin-ws listens at the address, not another WebSocket server; then "
    "`/health` and the server's CPU",
    Step.HEARTBEAT: "check `/health`, the server's CPU, and proxies that hold messages back",
    Step.CLOSE: "check for proxies that cut connections",
}

# By words of the reason; the first that is found counts.
_REASON_ACTIONS: Final = (
    ("has expired", "renew the server's certificate, then send SIGHUP to the server"),
    ("not yet valid", "check the clocks of both machines, then the server's certificate"),
    ("not valid for", "connect by a name of the certificate, or issue one for this name"),
    ("mismatch", "connect by a name of the certificate, or issue one for this name"),
    (
        "issuer certificate",
        "serve the whole chain (WS_TLS_CERT: own certificate first); for an authority of your own "
        "set SSL_CERT_FILE to its certificate",
    ),
    (
        "self-signed certificate",
        "set SSL_CERT_FILE to the certificate of the authority, or serve one of a public authority",
    ),
    ("does not speak TLS", "use ws://, or the port that speaks TLS"),
    ("requires TLS", "use wss://"),
    ("FORBIDDEN", "name a channel that the token grants with --channel"),
    ("INVALID_CHANNEL", "name a channel of the server's catalogue with --channel"),
    ("the server is restarting", "wait: the server ends; a load balancer should not lead here"),
)

_STATUS_ACTIONS: Final = {
    301: "use the address of the redirect, with wss:// for https://",
    302: "use the address of the redirect, with wss:// for https://",
    307: "use the address of the redirect, with wss:// for https://",
    308: "use the address of the redirect, with wss:// for https://",
    400: "check proxies: they have to pass `Upgrade` and `Connection` on, and one PROXY header if "
    "WS_PROXY_PROTOCOL requires it (docs/load-balancers.md)",
    401: "set ODIN_WS_TOKEN or --token-file to a valid token (docs/auth.md)",
    403: "check that the token is not revoked, and rules of proxies",
    404: "use the path /ws of WS_ADDR's port; a proxy may add or cut a prefix",
    426: "check proxies: they have to pass `Upgrade` and `Connection` on (docs/load-balancers.md)",
    429: "wait, or raise the limit; behind a proxy set WS_TRUSTED_PROXIES (docs/rate-limiting.md)",
    502: "check the proxy and whether the server runs behind it (`/health/ready`)",
    503: "check `/health`: the server, or a proxy without a ready server, has no room "
    "(docs/rate-limiting.md)",
    504: "check the proxy and whether the server answers behind it (`/health/ready`)",
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
    if not all("!" <= one <= "~" for one in text.replace(url.hostname, "")):
        raise InvalidUrl(f"{text!r}: spaces and characters beyond ASCII must be percent-encoded")
    try:
        url.hostname.encode("idna")
    except UnicodeError:
        raise InvalidUrl(f"{text}: {url.hostname} is not a host name") from None
    return ServiceAddress(url.hostname, port or _PORTS[url.scheme], _path(url), url.scheme == "wss")


def _path(url: SplitResult) -> str:
    return (url.path or "/ws") + (f"?{url.query}" if url.query else "")


async def check_service(
    findings: Findings, address: ServiceAddress, channel: str, token: str | None, seconds: float
) -> None:
    """Connect, subscribe to a channel, send a heartbeat and close, within `seconds`."""
    if address.tls:
        check_authority(findings)
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
        findings.fail(f"service {failure.step}", failure.reason, action(failure))
    _check_certificate(findings, result.certificate_expires)
    _check_clock(findings, result.server_ms)


def action(failure: StepFailed) -> str:
    """Return what to do about a failed step, by its reason, its HTTP status, or the step."""
    for words, text in _REASON_ACTIONS:
        if words in failure.reason:
            return text
    return _STATUS_ACTIONS.get(failure.status, _ACTIONS[failure.step])


def check_authority(findings: Findings) -> None:
    """Warn about an SSL_CERT_FILE that cannot be read: OpenSSL ignores it silently."""
    path = os.environ.get("SSL_CERT_FILE")
    if path is None:
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        unusable = isinstance(error, ssl.SSLError)
        why = "no certificate in PEM" if unusable else error.strerror
        findings.warn(
            "service authority",
            f"SSL_CERT_FILE={path}: {why}",
            "name a file with the authority's certificate in PEM",
        )


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
