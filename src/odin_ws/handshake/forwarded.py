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

# Each address is judged twice on its way in, for its rate and for its connections, and many belong
# to more than one connection: so many are kept, some 100 KB.
_ADDRESSES: Final = 1024

# The part of an IPv6 address that its owner cannot choose: providers give out a /64 or more, so one
# machine has as many addresses as it likes.
_OWNED_BITS: Final = 64

# RFC 6052, 2.1: what a translator (NAT64) makes of IPv4 addresses for a server that has only IPv6.
# All of them are in one /64, and each is somebody else's.
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")

# The headers in which proxies name their clients, as settings and heads have them.
_X_FORWARDED_FOR: Final = "x-forwarded-for"

# RFC 7239, 4: one `name=value` of a Forwarded header, and what ends it.
_PAIR: Final = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*([;,]|$)"""
)


@attrs.frozen
class ClientAddress:
    """Where a connection comes from. `named`: the address is the client's own.

    Otherwise it is that of a trusted proxy which has not said for whom it asks: behind it may be
    any number of strangers.
    """

    address: str
    named: bool = True


def _within(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a translator or tunnel (NAT64, 6to4, Teredo) has made this one of.

    Whoever has one IPv4 address has all that can be made of it: of 6to4 65,536 networks of a /64.
    """
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else None)


def limit_key(address: str) -> str:
    """What limits of an address count by: itself or the IPv4 address within, of IPv6 its /64."""
    parsed = parse_ip(address)
    if not isinstance(parsed, IPv6Address):
        return address if parsed is None else str(parsed)
    if (within := _within(parsed)) is not None:
        return str(within)
    owned = int(parsed) >> _OWNED_BITS << _OWNED_BITS
    return f"{IPv6Address(owned)}/{_OWNED_BITS}"


@lru_cache(_ADDRESSES)
def is_public(address: str) -> bool:
    """Whether it is somebody's on the internet; what is no address is nobody's.

    An address with an IPv4 address within is public, whatever is within: RFC 3056 and RFC 6052
    have no private ones there, so one that has comes from somebody who hopes to be taken for one.
    """
    parsed = parse_ip(address)
    if isinstance(parsed, IPv6Address) and _within(parsed) is not None:
        return True
    return parsed is not None and parsed.is_global


class TrustedProxies:
    """The networks whose word about others' addresses is taken; nobody else's is.

    `header`: the one in which they name their clients (`X-Forwarded-For`, or `Forwarded` of RFC
    7239). A proxy that writes one of the two passes on what a client writes into the other one, so
    that one is not looked at.
    """

    def __init__(self, networks: Sequence[Network], header: str = _X_FORWARDED_FOR) -> None:
        self.header = header.lower()
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        """Whether it is a trusted proxy's own address; an IPv4 address within proves nothing."""
        if not self._networks or (parsed := parse_ip(address)) is None:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> ClientAddress:
        """Who asks, by the header of a trusted proxy; anybody else is who it is.

        Each proxy adds on the right who has asked it. So from the right on, what trusted proxies
        have written is true; the first address that is none of theirs is the client, and what
        stands left of it may be the client's own invention.

        Where the header is absent, hides the client, is garbage, or has only proxies, there is no
        client's address: what counts then is the last proxy that is known, which is not `named`.
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
    """The `for` of each element, empty where there is none or it cannot be read."""
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
