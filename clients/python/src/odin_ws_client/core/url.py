"""Parses the URL of a WebSocket server."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import attrs

from odin_ws_client.core.errors import InvalidUrl

__all__ = ["ServerAddress", "read_url"]

_PORTS: Final = {"ws": 80, "wss": 443}

# The characters allowed in a request target and a Host header.
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")


@attrs.frozen
class ServerAddress:
    """The parts of a WebSocket URL."""

    host: str
    """The host to connect to."""
    port: int
    """The TCP port to connect to."""
    secure: bool
    """True to use TLS (wss:)."""
    authority: str
    """The value of the Host header: host and port as in the URL."""
    target: str
    """The request target: path and query."""


def read_url(url: str) -> ServerAddress:
    """Parse a WebSocket URL and return its parts.

    Raises:
        InvalidUrl: if `url` is not a ws: or wss: URL, or has characters to be percent-encoded.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidUrl(str(error)) from error
    if parts.hostname is None or parts.scheme not in _PORTS:
        raise InvalidUrl("must be ws://host:port/path or wss://host:port/path")
    target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
    authority = parts.netloc.rpartition("@")[2]
    if not (_VISIBLE.fullmatch(target) and _VISIBLE.fullmatch(authority)):
        raise InvalidUrl("spaces and characters beyond ASCII must be percent-encoded")
    return ServerAddress(
        parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "wss", authority, target
    )
