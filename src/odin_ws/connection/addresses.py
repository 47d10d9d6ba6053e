"""Who a caller is behind proxies: pure, from the addresses and headers it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

__all__ = ["Network", "TrustedProxies", "is_public", "limit_key", "read_address"]

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

# The part of an IPv6 address that its owner cannot choose: providers give out a /64 or more, so one
# machine has as many addresses as it likes.
_OWNED_BITS: Final = 64

# RFC 6052, 2.1: what a translator (NAT64) makes of IPv4 addresses for a server that has only IPv6.
# All of them are in one /64, and each is somebody else's.
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")

# RFC 7239, 4: one `name=value` of a Forwarded header, and what ends it.
_PAIR: Final = re.compile(
    r"""\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*([;,]|$)"""
)


def read_address(text: str) -> str | None:
    """An address as it is written everywhere here, without its port; None for what is none.

    An IPv4 address in IPv6's clothes (`::ffff:192.0.2.1`, `64:ff9b::192.0.2.1`) is one of IPv4.
    """
    address = _parse(text)
    return None if address is None else str(address)


def _parse(text: str) -> Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address


def limit_key(address: str) -> str:
    """What limits of an address count by: itself, of IPv6 its /64."""
    parsed = _parse(address)
    if not isinstance(parsed, IPv6Address):
        return address if parsed is None else str(parsed)
    owned = int(parsed) >> _OWNED_BITS << _OWNED_BITS
    return f"{IPv6Address(owned)}/{_OWNED_BITS}"


def is_public(address: str) -> bool:
    """Whether it is somebody's on the internet; what is no address is nobody's."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_global


class TrustedProxies:
    """The networks whose word about others' addresses is taken; nobody else's is."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        if not self._networks or (parsed := _parse(address)) is None:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of who asks, by X-Forwarded-For or Forwarded (RFC 7239), else the peer's.

        Each proxy adds on the right who has asked it. So from the right on, what trusted proxies
        have written is true; the first address that is none of theirs is the client, and what
        stands left of it may be the client's own invention.

        A proxy that writes one of the headers passes on what a client writes into the other. Where
        both are there and disagree neither counts.
        """
        if peer not in self:
            return peer
        chains = []
        if "x-forwarded-for" in headers:
            chains.append(headers["x-forwarded-for"].split(","))
        if "forwarded" in headers:
            chains.append(list(_forwarded_for(headers["forwarded"])))
        found = {self._first_stranger(peer, chain) for chain in chains}
        return found.pop() if len(found) == 1 else peer

    def _first_stranger(self, peer: str, chain: Sequence[str]) -> str:
        for hop in reversed(chain):
            address = read_address(hop.strip())
            if address is None:
                # Hidden, or no address: the last proxy that is known speaks for it.
                break
            peer = address
            if address not in self:
                break
        return peer


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
