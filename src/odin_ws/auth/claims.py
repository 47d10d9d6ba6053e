"""Reads and checks the claims of a verified JWT: user, expiry, channels, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import attrs
import orjson

__all__ = ["MAX_NAMES", "Claims", "InvalidClaims", "parse_claims", "read_claims"]

# Names of users and tokens are counted, listed and compared: an e-mail address or UUID fits.
_MAX_NAME_LENGTH: Final = 256

# How many names a list may have: as many as a list of a command.
MAX_NAMES: Final = 1024

# Control characters, surrogates, and what ends a line or paragraph: logs, pages and JSON that have
# a name could not be written, or not be read.
_UNFIT: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# The integers that every JSON parser keeps as they are (RFC 8259, 6).
_MAX_NUMBER: Final = 1 << 53


class InvalidClaims(ValueError):
    """A claim that is not what it should be; the message names it."""


@attrs.frozen
class Claims:
    """`user` is `sub`, `token_id` is `jti`, `expires_at` is `exp` (epoch seconds).

    `channels`: the granted names, None where the token has no such claim. `all`: every claim, for
    a policy that looks at one of the issuer's own.
    """

    user: str
    expires_at: float
    token_id: str | None
    channels: tuple[str, ...] | None
    max_subscriptions: int | None
    all: Mapping[str, Any]


def parse_claims(text: bytes) -> Mapping[str, Any]:
    """The claims of a token's payload, as strict JSON has them. Raises InvalidClaims.

    Python's own parser lets through what nothing else can read or write: NaN, numbers beyond any
    bound, and halves of surrogate pairs.
    """
    try:
        payload = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidClaims("no JSON") from None
    if not isinstance(payload, dict):
        raise InvalidClaims("an object is needed")
    return payload


def read_claims(payload: Mapping[str, Any]) -> Claims:
    """Read what we look at. Raises InvalidClaims."""
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
    """Epoch seconds, without a fraction: tokens end at whole ones."""
    value = payload.get(claim)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidClaims(f"{claim}: a number is needed")
    if not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise InvalidClaims(f"{claim}: no time that could come")
    return int(value)


def _name(payload: Mapping[str, Any], claim: str) -> str:
    value = payload.get(claim)
    if not _is_name(value) or not value:
        raise InvalidClaims(
            f"{claim}: a text of 1 to {_MAX_NAME_LENGTH} characters, no control ones"
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
            f"channels: a list of up to {MAX_NAMES} texts of up to {_MAX_NAME_LENGTH} characters, "
            "no control ones"
        )
    return tuple(value)


def _count(payload: Mapping[str, Any], claim: str) -> int | None:
    if claim not in payload:
        return None
    value = payload[claim]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_NUMBER:
        raise InvalidClaims(f"{claim}: an integer, 0 or more")
    return value
