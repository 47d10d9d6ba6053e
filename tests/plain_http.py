"""HTTP clients for plain HTTP on this machine."""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx

__all__ = ["plain_client"]

# It trusts nobody. By default httpx reads the certificates of all authorities for each client,
# which takes 20 ms of CPU: as long as several hundred requests of a test that polls.
_NO_AUTHORITIES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def plain_client(seconds: float, **options: Any) -> httpx.AsyncClient:
    """Return a client for plain HTTP, without proxies; each request has this timeout."""
    return httpx.AsyncClient(verify=_NO_AUTHORITIES, trust_env=False, timeout=seconds, **options)
