"""The reasons why a JWT is rejected."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

__all__ = ["InvalidJwt", "JwtFault", "KeysUnavailable"]


class JwtFault(StrEnum):
    """The fault of a rejected JWT: the label of the metric."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    AUDIENCE = "audience"
    ISSUER = "issuer"
    CLAIMS = "claims"
    REVOKED = "revoked"
    OTHER_USER = "other_user"


# The texts for clients. A forger learns nothing about why a JWT failed: times are checked after
# the signature.
_SENTENCES: Final = {
    JwtFault.EXPIRED: "the token has expired",
    JwtFault.NOT_YET_VALID: "the token is not valid yet",
    JwtFault.REVOKED: "access was revoked",
    JwtFault.OTHER_USER: "the token belongs to another user",
}


@attrs.define
class InvalidJwt(Exception):
    """A JWT that is rejected."""

    fault: JwtFault

    def __str__(self) -> str:
        return _SENTENCES.get(self.fault, "the token is not valid")


class KeysUnavailable(Exception):
    """The keys were never loaded, so no JWT can be verified yet."""
