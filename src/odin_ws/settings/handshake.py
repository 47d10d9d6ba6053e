"""Settings of the handshake: TLS, proxies, rate limits, fragments, pending handshakes."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

import attrs

from odin_ws.settings.declaration import FILE, NETWORKS, choice, integer, number, optional, setting

__all__ = ["PUBLIC_CONNECTIONS", "PUBLIC_CONNECT_RATE", "HandshakeSettings"]

# What a public address may have where its limits are not set: more than the devices of an office
# or of a provider's shared address make, and a twelfth of the default WS_MAX_CONNECTIONS. Other
# addresses have no limit then, for proxies nobody has declared, load balancers and benches are
# there.
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
        "certificate chain (PEM): subscribers are served over TLS; read again on SIGHUP",
    )
    ws_tls_key: Path | None = setting(
        "WS_TLS_KEY", "", FILE, "", "its private key (PEM), without a password"
    )
    ws_tls_expiry_warning_days: float = setting(
        "WS_TLS_EXPIRY_WARNING_DAYS",
        "14",
        number(0, 3650),
        "days",
        "for as long before the certificate expires, health is degraded",
    )
    ws_trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        "WS_TRUSTED_PROXIES",
        "",
        NETWORKS,
        "",
        "who is believed for whom it asks: by WS_FORWARDED_HEADER and PROXY headers",
    )
    ws_forwarded_header: str = setting(
        "WS_FORWARDED_HEADER",
        "X-Forwarded-For",
        choice("X-Forwarded-For", "Forwarded"),
        "",
        "the header in which trusted proxies name their clients; the other one is ignored",
    )
    ws_proxy_protocol: str = setting(
        "WS_PROXY_PROTOCOL",
        "off",
        choice("off", "required"),
        "",
        "required: connections come from trusted proxies only, and begin with a PROXY header, v2",
    )
    ws_max_connections_per_ip: int | None = setting(
        "WS_MAX_CONNECTIONS_PER_IP",
        "",
        optional(integer(0)),
        "connections",
        "more from one address (IPv6: one /64) are answered 429; 0 for no limit; "
        f"not set: {PUBLIC_CONNECTIONS} from a public address, no limit for others",
    )
    ws_connect_rate: float = setting(
        "WS_CONNECT_RATE",
        "0",
        number(0, 1e6),
        "connections/s",
        "more than that are answered 429, after a burst of 5 seconds' worth; 0 for no limit",
    )
    ws_connect_rate_per_ip: float | None = setting(
        "WS_CONNECT_RATE_PER_IP",
        "",
        optional(number(0, 1e6)),
        "connections/s",
        "the same from one address (IPv6: one /64); 0 for no limit; "
        f"not set: {PUBLIC_CONNECT_RATE:g} from a public address, no limit for others",
    )
    ws_max_loop_delay_seconds: float = setting(
        "WS_MAX_LOOP_DELAY_SECONDS",
        "0.5",
        number(0, 60),
        "s",
        "while the event loop is behind by more, new connections get 503; 0 for no limit",
    )
    ws_max_fragments: int = setting(
        "WS_MAX_FRAGMENTS",
        "128",
        integer(1, 1_000_000),
        "frames",
        "a command in more frames closes with 1009",
    )
    ws_message_timeout_seconds: float = setting(
        "WS_MESSAGE_TIMEOUT_SECONDS",
        "10",
        number(0.1, 3600),
        "s",
        "a command that was begun and is not whole by then closes with 1008",
    )
    ws_max_pending_handshakes: int = setting(
        "WS_MAX_PENDING_HANDSHAKES",
        "2048",
        integer(1, 1_000_000),
        "callers",
        "who may be on the way in at once; with more, who has waited longest is answered 503",
    )
