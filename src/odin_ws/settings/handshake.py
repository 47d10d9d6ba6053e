"""Settings of the handshake: TLS, proxies, rate limits, fragments, pending handshakes."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

import attrs

from odin_ws.settings.declaration import FILE, NETWORKS, choice, integer, number, optional, setting

__all__ = ["PUBLIC_CONNECTIONS", "PUBLIC_CONNECT_RATE", "HandshakeSettings"]

# Limits for public addresses: more than the devices behind the shared address of an office or
# provider make, and a twelfth of the default WS_MAX_CONNECTIONS. Other addresses are unlimited by
# default: they are undeclared proxies, load balancers and benchmarks.
PUBLIC_CONNECTIONS: Final = 1000
PUBLIC_CONNECT_RATE: Final = 100.0


@attrs.frozen(slots=False)  # several are bases of one class
class HandshakeSettings:
    """See odin_ws.settings.Settings."""

    ws_tls_cert: Path | None = setting(
        "WS_TLS_CERT",
        "",
        FILE,
        "",
        "certificate chain (PEM); enables TLS for subscribers; reloaded on SIGHUP",
    )
    ws_tls_key: Path | None = setting(
        "WS_TLS_KEY", "", FILE, "", "private key (PEM) of WS_TLS_CERT, without a password"
    )
    ws_tls_expiry_warning_days: float = setting(
        "WS_TLS_EXPIRY_WARNING_DAYS",
        "14",
        number(0, 3650),
        "days",
        "health is degraded for this time before the certificate expires",
    )
    ws_trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        "WS_TRUSTED_PROXIES",
        "",
        NETWORKS,
        "",
        "proxies whose WS_FORWARDED_HEADER and PROXY header are trusted",
    )
    ws_forwarded_header: str = setting(
        "WS_FORWARDED_HEADER",
        "X-Forwarded-For",
        choice("X-Forwarded-For", "Forwarded"),
        "",
        "header in which trusted proxies name the client's address; the other is ignored",
    )
    ws_proxy_protocol: str = setting(
        "WS_PROXY_PROTOCOL",
        "off",
        choice("off", "required"),
        "",
        "required: only trusted proxies may connect, with a PROXY v2 header on each connection",
    )
    ws_max_connections_per_ip: int | None = setting(
        "WS_MAX_CONNECTIONS_PER_IP",
        "",
        optional(integer(0)),
        "connections",
        "connections per address (IPv6: /64), above it 429; 0 for no limit; "
        f"default: {PUBLIC_CONNECTIONS} for a public address, no limit for others",
    )
    ws_connect_rate: float = setting(
        "WS_CONNECT_RATE",
        "0",
        number(0, 1e6),
        "connections/s",
        "new connections in total, above it 429; 5 seconds' worth may come at once; 0 for no limit",
    )
    ws_connect_rate_per_ip: float | None = setting(
        "WS_CONNECT_RATE_PER_IP",
        "",
        optional(number(0, 1e6)),
        "connections/s",
        "new connections per address (IPv6: /64), above it 429; 0 for no limit; "
        f"default: {PUBLIC_CONNECT_RATE:g} for a public address, no limit for others",
    )
    ws_max_loop_delay_seconds: float = setting(
        "WS_MAX_LOOP_DELAY_SECONDS",
        "0.5",
        number(0, 60),
        "s",
        "while the event loop is late by more, new connections get 503; 0 for no limit",
    )
    ws_max_fragments: int = setting(
        "WS_MAX_FRAGMENTS",
        "128",
        integer(1, 1_000_000),
        "frames",
        "a command in more frames closes the connection with 1009",
    )
    ws_message_timeout_seconds: float = setting(
        "WS_MESSAGE_TIMEOUT_SECONDS",
        "10",
        number(0.1, 3600),
        "s",
        "a fragmented command that takes longer closes the connection with 1008",
    )
    ws_max_pending_handshakes: int = setting(
        "WS_MAX_PENDING_HANDSHAKES",
        "2048",
        integer(1, 1_000_000),
        "handshakes",
        "limit of unfinished handshakes; above it the oldest gets 503",
    )
