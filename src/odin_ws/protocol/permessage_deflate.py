"""Negotiates the permessage-deflate extension (RFC 7692) in the handshake."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import attrs

__all__ = ["NO_WINDOW", "WINDOWS", "NegotiatedDeflate", "negotiate"]

_NAME: Final = "permessage-deflate"

NO_WINDOW: Final = 0
"""The window of a connection without compression."""

# Texts are compressed once per window size, so there are three: those that clients request in
# practice (32 KiB, and Python's websockets 4 KiB), and none for smaller ones.
WINDOWS: Final = (8, 12, 15)

_MAX_WINDOW_BITS: Final = 15

# RFC 9110, 5.6.2 and 5.6.4, without escapes in quotes: no parameter here needs one.
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf'({_WORD})(?:[ \t]*=[ \t]*(?:({_WORD})|"({_WORD})"))?')
_BITS: Final = re.compile("[89]|1[0-5]")


@attrs.frozen
class NegotiatedDeflate:
    """The negotiated parameters."""

    response: str
    """The value of the server's Sec-WebSocket-Extensions."""
    window_bits: int
    """One of `WINDOWS`: the limit of references in what the server sends."""


@attrs.frozen
class _Offer:
    window_bits: int | None


@lru_cache(maxsize=64)
def negotiate(offers: str) -> NegotiatedDeflate | None:
    """Accept the first acceptable offer of a Sec-WebSocket-Extensions header; None without one.

    Neither direction keeps state between two messages: the same compressed bytes serve every
    client, and a connection has no window. Clients of one kind send the same offer and share the
    result.
    """
    for offer in offers.split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        found = _read(parameters) if name.lower() == _NAME else None
        if found is not None:
            return _accept(found)
    return None


def _accept(offer: _Offer) -> NegotiatedDeflate:
    response = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
    if offer.window_bits is None:
        return NegotiatedDeflate(response, _MAX_WINDOW_BITS)
    window_bits = max(bits for bits in WINDOWS if bits <= offer.window_bits)
    return NegotiatedDeflate(f"{response}; server_max_window_bits={window_bits}", window_bits)


def _read(parameters: Sequence[str]) -> _Offer | None:
    """Parse one offer; None to decline it (RFC 7692, 5.1 and 7.1)."""
    values: dict[str, str | None] = {}
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        if match is None:
            return None
        name, value, quoted = match.groups()
        if name in values or not _is_valid(name, value or quoted):
            return None
        values[name] = value or quoted
    bits = values.get("server_max_window_bits")
    return _Offer(None if bits is None else int(bits))


def _is_valid(name: str, value: str | None) -> bool:
    check = _CHECKS.get(name)
    return check is not None and check(value)


def _has_no_value(value: str | None) -> bool:
    return value is None


def _is_bits(value: str | None) -> bool:
    return value is not None and _BITS.fullmatch(value) is not None


def _is_bits_or_nothing(value: str | None) -> bool:
    return value is None or _is_bits(value)


_CHECKS: Final[Mapping[str, Callable[[str | None], bool]]] = {
    "server_no_context_takeover": _has_no_value,
    "client_no_context_takeover": _has_no_value,
    "server_max_window_bits": _is_bits,
    "client_max_window_bits": _is_bits_or_nothing,
}
