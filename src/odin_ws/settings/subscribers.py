"""Settings of subscribers: address, connection and subscription limits, send queue, pings."""

from __future__ import annotations

import attrs

from odin_ws.address import Address
from odin_ws.settings.declaration import ADDRESS, MIB, choice, integer, number, setting

__all__ = ["SubscriberSettings"]


@attrs.frozen(slots=False)  # several are bases of one class
class SubscriberSettings:
    """See odin_ws.settings.Settings."""

    ws_addr: Address = setting("WS_ADDR", ":3002", ADDRESS, "", "address for subscribers")
    ws_max_connections: int = setting(
        "WS_MAX_CONNECTIONS", "12000", integer(1), "connections", "further connections get 503"
    )
    ws_max_broadcast_rate: float = setting(
        "WS_MAX_BROADCAST_RATE",
        "20",
        number(0, 1000),
        "cycles/s",
        "write cycles per second, each with at most one write to a subscriber; 0 for no limit",
    )
    ws_max_subscriptions: int = setting(
        "WS_MAX_SUBSCRIPTIONS",
        "1024",
        integer(1, 1_000_000),
        "patterns",
        "limit of patterns per connection",
    )
    ws_max_subscription_bytes: int = setting(
        "WS_MAX_SUBSCRIPTION_BYTES",
        str(64 << 10),
        integer(1024, 1024 * MIB),
        "bytes",
        "limit of the total length of a connection's patterns",
    )
    ws_max_filters: int = setting(
        "WS_MAX_FILTERS",
        "100",
        integer(0, 100_000),
        "filters",
        "limit of distinct filters (where) of all subscribers of a process",
    )
    ws_max_filters_per_connection: int = setting(
        "WS_MAX_FILTERS_PER_CONNECTION",
        "10",
        integer(0, 100_000),
        "filters",
        "limit of distinct filters (where) per connection",
    )
    ws_max_message_bytes: int = setting(
        "WS_MAX_MESSAGE_BYTES",
        str(64 << 10),
        integer(128, 16 * MIB),
        "bytes",
        "a larger command closes the connection with 1009",
    )
    ws_command_rate: float = setting(
        "WS_COMMAND_RATE",
        "10",
        number(0.1, 1e6),
        "commands/s",
        "commands per second of one connection",
    )
    ws_command_burst: int = setting(
        "WS_COMMAND_BURST",
        "100",
        integer(1, 1_000_000),
        "commands",
        "commands that a connection may send at once",
    )
    ws_max_header_bytes: int = setting(
        "WS_MAX_HEADER_BYTES",
        str(16 << 10),
        integer(512, MIB),
        "bytes",
        "a larger request head gets 431",
    )
    ws_handshake_timeout_seconds: float = setting(
        "WS_HANDSHAKE_TIMEOUT_SECONDS",
        "5",
        number(0.1, 60),
        "s",
        "a slower request head gets 408",
    )
    ws_send_queue_bytes: int = setting(
        "WS_SEND_QUEUE_BYTES",
        str(MIB),
        integer(1024, 1024 * MIB),
        "bytes",
        "a subscriber with more unsent bytes is closed as slow",
    )
    ws_write_timeout_seconds: float = setting(
        "WS_WRITE_TIMEOUT_SECONDS",
        "10",
        number(0.1, 3600),
        "s",
        "a subscriber whose oldest unsent byte is older is closed as slow",
    )
    ws_conflation_threshold_bytes: int = setting(
        "WS_CONFLATION_THRESHOLD_BYTES",
        str(64 << 10),
        integer(0, 1024 * MIB),
        "bytes",
        "with more unsent bytes, a subscriber with delivery latest gets only the latest messages",
    )
    ws_compression: str = setting(
        "WS_COMPRESSION",
        "shared",
        choice("shared", "off"),
        "",
        "permessage-deflate, if offered: shared compresses a message once for all clients",
    )
    ws_ping_interval_seconds: float = setting(
        "WS_PING_INTERVAL_SECONDS", "30", number(0.1, 3600), "s", "time between pings to a client"
    )
    ws_pong_timeout_seconds: float = setting(
        "WS_PONG_TIMEOUT_SECONDS",
        "75",
        number(0.1, 7200),
        "s",
        "clients that send nothing for longer are closed; must exceed WS_PING_INTERVAL_SECONDS",
    )
