"""Parses the URL of a WebSocket server."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import attrs

from odin_ws_client.core.errors import InvalidUrl

__all__ = ["ServerAddress", "read_url"]

_PORTS: Final = {"ws": 80, "wss": 443}

# What may stand in a request line and a Host header.
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


@attrs.frozen
class ServerAddress:
    """A URL's parts: where to dial, and what to ask for there."""

    host: str
    port: int
    secure: bool
    authority: str
    target: str


def read_url(url: str) -> ServerAddress:
    """The parts of a URL with ws: or wss:. Raises InvalidUrl."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidUrl(str(error)) from error
    if parts.hostname is None or parts.scheme not in _PORTS:
        raise InvalidUrl("a WebSocket's address is ws://host:port/path, or wss://")
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    authority = parts.netloc.rpartition("@")[2]
    if not (_VISIBLE.fullmatch(target) and _VISIBLE.fullmatch(authority)):
        raise InvalidUrl("other characters than ASCII, and spaces, have to be percent-encoded")
    return ServerAddress(
        parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "wss", authority, target
    )
