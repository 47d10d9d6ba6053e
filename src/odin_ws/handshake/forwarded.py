"""The client address behind trusted proxies: X-Forwarded-For and Forwarded headers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

import attrs

from odin_ws.address import parse_ip, read_address

__all__ = ["ClientAddress", "Network", "TrustedProxies", "is_public", "limit_key"]

Network = IPv4Network | IPv6Network

# Each address is checked twice in the handshake, for its rate and for its connections, and many
# have more than one connection: this many results are cached, about 100 KB.
_ADDRESSES: Final = 1024

# The part of an IPv6 address that its owner cannot choose: providers assign a /64 or more, so one
# machine has any number of addresses.
_OWNED_BITS: Final = 64

# RFC 6052, 2.1: IPv4 addresses as a translator (NAT64) maps them for IPv6 servers. All of them are
# in one /64, and each has another owner.
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")

# The headers in which proxies name their clients, as in settings and requests.
_X_FORWARDED_FOR: Final = "x-forwarded-for"

# RFC 7239, 4: one `name=value` of a Forwarded header and its end.
_PAIR: Final = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*([;,]|$)"""
)


@attrs.frozen
class ClientAddress:
    """The origin of a connection."""

    address: str
    named: bool = True
    """True if the address is the client's own. Otherwise it is the address of a trusted proxy that
    did not name its client: any number of clients may be behind the proxy."""


def _within(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address within an address of a translator or tunnel (NAT64, 6to4, Teredo).

    The owner of an IPv4 address also has all IPv6 addresses that contain it: with 6to4, 65,536
    networks of /64.
    """
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else None)


def limit_key(address: str) -> str:
    """Return the key of per-address limits: the address, the IPv4 address within, or its /64."""
    parsed = parse_ip(address)
    if not isinstance(parsed, IPv6Address):
        return address if parsed is None else str(parsed)
    if (within := _within(parsed)) is not None:
        return str(within)
    owned = int(parsed) >> _OWNED_BITS << _OWNED_BITS
    return f"{IPv6Address(owned)}/{_OWNED_BITS}"


@lru_cache(_ADDRESSES)
def is_public(address: str) -> bool:
    """Return whether an address is a public internet address; False for invalid text.

    An address with an IPv4 address within is always public: RFC 3056 and RFC 6052 allow no private
    ones there, so such an address is forged.
    """
    parsed = parse_ip(address)
    if isinstance(parsed, IPv6Address) and _within(parsed) is not None:
        return True
    return parsed is not None and parsed.is_global


class TrustedProxies:
    """The trusted proxies, whose headers about clients' addresses are believed.

    `header`: the header in which they name their clients (`X-Forwarded-For`, or `Forwarded` of RFC
    7239). A proxy that writes one of the two passes on the client's own text in the other, so the
    other is ignored.
    """

    def __init__(self, networks: Sequence[Network], header: str = _X_FORWARDED_FOR) -> None:
        self.header = header.lower()
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        """Return whether a proxy is trusted, by its own address, not an IPv4 address within it."""
        if not self._networks or (parsed := parse_ip(address)) is None:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> ClientAddress:
        """Return the client of a connection: by a trusted proxy's header, otherwise the peer.

        Each proxy appends its peer on the right. So from the right, entries that trusted proxies
        wrote are true; the first address that is no trusted proxy is the client, and entries left
        of it may be invented.

        If the header is missing, obfuscated, malformed or has only proxies, the client is unknown:
        the last known proxy counts, and is not `named`.
        """
        if peer not in self:
            return ClientAddress(peer)
        header = headers.get(self.header, "")
        chain = header.split(",") if self.header == _X_FORWARDED_FOR else _forwarded_for(header)
        for hop in reversed(list(chain)):
            address = read_address(hop.strip())
            if address is None:
                break
            peer = address
            if address not in self:
                return ClientAddress(address)
        return ClientAddress(peer, named=False)


def _forwarded_for(header: str) -> Iterator[str]:
    """Yield the `for` of each element; empty if it is missing or malformed."""
    at, address = 0, ""
    while at < len(header):
        if (pair := _PAIR.match(header, at)) is None:
            yield ""
            return
        name, quoted, token, end = pair.groups()
        if name.lower() == "for":
            address = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";":
            yield address
            address = ""
        at = pair.end()
