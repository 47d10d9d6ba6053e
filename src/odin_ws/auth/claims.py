"""Reads and checks the claims of a verified JWT: user, expiry, channels, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import attrs
import orjson

__all__ = ["MAX_NAMES", "Claims", "InvalidClaims", "parse_claims", "read_claims"]

# Maximum length of names of users and tokens: e-mail addresses and UUIDs fit.
_MAX_NAME_LENGTH: Final = 256

# Maximum number of names in a list claim, as in a list of a command.
MAX_NAMES: Final = 1024

# Control characters, surrogates, line and paragraph separators: they would break logs, pages and
# JSON.
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# The integers that every JSON parser preserves (RFC 8259, 6).
_MAX_NUMBER: Final = 1 << 53


class InvalidClaims(ValueError):
    """A claim has a wrong type or value; the message names it."""


@attrs.frozen
class Claims:
    """The claims of a verified JWT."""

    user: str
    """The claim `sub`."""
    expires_at: float
    """The claim `exp`, epoch seconds."""
    token_id: str | None
    """The claim `jti`; None without one."""
    channels: tuple[str, ...] | None
    """The granted names; None if the JWT has no such claim."""
    max_subscriptions: int | None
    """The user's own limit of subscriptions; None without one."""
    all: Mapping[str, Any]
    """Every claim, for policies that use claims of the issuer."""


def parse_claims(text: bytes) -> Mapping[str, Any]:
    """Parse a token's payload as strict JSON. Raises InvalidClaims.

    Python's own parser accepts NaN, unbounded numbers and lone surrogates, which other programs
    cannot read or write.
    """
    try:
        payload = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidClaims("not JSON") from None
    if not isinstance(payload, dict):
        raise InvalidClaims("must be an object")
    return payload


def read_claims(payload: Mapping[str, Any]) -> Claims:
    """Read the claims that the server uses. Raises InvalidClaims."""
    for claim in ("nbf", "iat"):
        if claim in payload:
            _time(payload, claim)
    return Claims(
        user=_name(payload, "sub"),
        expires_at=_time(payload, "exp"),
        token_id=_name(payload, "jti") if "jti" in payload else None,
        channels=_channels(payload),
        max_subscriptions=_count(payload, "max_subscriptions"),
        all=payload,
    )


def _time(payload: Mapping[str, Any], claim: str) -> float:
    """Return epoch seconds without a fraction: tokens expire at whole seconds."""
    value = payload.get(claim)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidClaims(f"{claim}: must be a number")
    if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise InvalidClaims(f"{claim}: out of range")
    return int(value)


def _name(payload: Mapping[str, Any], claim: str) -> str:
    value = payload.get(claim)
    if not _is_name(value) or not value:
        raise InvalidClaims(
            f"{claim}: must be 1 to {_MAX_NAME_LENGTH} characters without control characters"
        )
    return value


def _is_name(value: Any) -> TypeGuard[str]:
    if not isinstance(value, str) or len(value) > _MAX_NAME_LENGTH:
        return False
    return _UNFIT.search(value) is None


def _channels(payload: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "channels" not in payload:
        return None
    value = payload["channels"]
    if not isinstance(value, list) or len(value) > MAX_NAMES or not all(map(_is_name, value)):
        raise InvalidClaims(
            f"channels: must be a list of up to {MAX_NAMES} strings of up to {_MAX_NAME_LENGTH} "
            "characters without control characters"
        )
    return tuple(value)


def _count(payload: Mapping[str, Any], claim: str) -> int | None:
    if claim not in payload:
        return None
    value = payload[claim]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_NUMBER:
        raise InvalidClaims(f"{claim}: must be an integer from 0 to {_MAX_NUMBER}")
    return value
