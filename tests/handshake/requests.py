"""Request heads, as clients send them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["UPGRADE", "max_header_bytes"]

# What RFC 6455 asks of a client, with the key of its example.
UPGRADE: Mapping[str, str] = {
    "Host": "odin.test",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def max_header_bytes(
    target: str = "/ws", *, method: str = "GET", version: str = "HTTP/1.1", **changes: str | None
) -> bytes:
    """A good head, but for `changes`: headers by their names with _ for -; None leaves one out."""
    renamed = {name.replace("_", "-").lower(): value for name, value in changes.items()}
    headers = {name.lower(): value for name, value in UPGRADE.items()} | renamed
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {target} {version}", *lines, "", ""]).encode("latin-1")
