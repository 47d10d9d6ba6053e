"""A TCP address as settings write it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

__all__ = ["Address", "is_loopback"]


class Address(NamedTuple):
    """Where to listen; an empty host means every interface, port 0 any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written: `:3002`, `127.0.0.1:3002`, `[::1]:3002`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
