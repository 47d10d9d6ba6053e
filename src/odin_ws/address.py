"""IP and TCP addresses: parsing, public or private, the /64 of an IPv6 address."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple

__all__ = ["Address", "host_name", "is_loopback", "parse_ip", "read_address", "read_socket_address"]

# Four decimal numbers up to 255, without leading zeros.
_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")

# The form of an IPv4 address on an IPv6 socket.
_MAPPED: Final = "::ffff:"


class Address(NamedTuple):
    """An address to listen at; an empty host means every interface, port 0 any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        """Format as `:3002`, `127.0.0.1:3002` or `[::1]:3002`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def host_name(host: str) -> str:
    """Return the name or address of a Host header in canonical form, without its port."""
    if host.count(":") > 1 and not host.startswith("["):
        return read_address(host) or host
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return read_address(name) or name.lower().removesuffix(".")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def read_address(text: str) -> str | None:
    """Return an address in its canonical form, without port; None for invalid text.

    An IPv4 address on an IPv6 socket (`::ffff:192.0.2.1`) becomes an IPv4 address.
    """
    address = parse_ip(text)
    return None if address is None else str(address)


def read_socket_address(text: str) -> str:
    """Return a socket's address in its canonical form, as `read_address` does."""
    if text.startswith(_MAPPED) and "." in text:
        return text[len(_MAPPED) :]
    # ipaddress formats an IPv6 address that ends like an IPv4 address differently.
    return text if ":" not in text or "." not in text else read_address(text) or text


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address in any usual form: with a port or brackets, or without."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        if ":" not in text:
            # ipaddress is as strict, and takes five times as long.
            return IPv4Address(bytes(map(int, text.split(".")))) if _IPV4.fullmatch(text) else None
        address = IPv6Address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address
