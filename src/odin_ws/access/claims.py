"""What a token says, once its signature, times, audience and issuer are known to be right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

__all__ = ["BadClaims", "Claims", "read_claims"]

# Names of users and tokens are counted, listed and compared: an e-mail address or UUID fits.
_MAX_NAME_LENGTH: Final = 256


class BadClaims(ValueError):
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


def read_claims(payload: Mapping[str, Any]) -> Claims:
    """Read what we look at. Raises BadClaims."""
    return Claims(
        user=_name(payload, "sub"),
        # The library that checked it accepts what int() reads.
        expires_at=int(payload["exp"]),
        token_id=_name(payload, "jti") if "jti" in payload else None,
        channels=_channels(payload),
        max_subscriptions=_count(payload, "max_subscriptions"),
        all=payload,
    )


def _name(payload: Mapping[str, Any], claim: str) -> str:
    value = payload.get(claim)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME_LENGTH:
        raise BadClaims(f"{claim}: a text of 1 to {_MAX_NAME_LENGTH} characters")
    return value


def _channels(payload: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "channels" not in payload:
        return None
    value = payload["channels"]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise BadClaims("channels: a list of texts")
    return tuple(value)


def _count(payload: Mapping[str, Any], claim: str) -> int | None:
    if claim not in payload:
        return None
    value = payload[claim]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadClaims(f"{claim}: an integer, 0 or more")
    return value
