"""Verifies one JWT: signature, expiry, audience, issuer, claims."""

from __future__ import annotations

from typing import Final

import attrs
import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError
from jwt.types import Options

from odin_ws.auth.claims import Claims, InvalidClaims, parse_claims, read_claims
from odin_ws.auth.faults import InvalidJwt, JwtFault
from odin_ws.auth.keys import Key, KeyName, KeySet

__all__ = ["JwtRules", "read_key_name", "verify_jwt"]


@attrs.frozen
class JwtRules:
    """`audience` must be in `aud`; if unset, tokens with an `aud` are rejected.

    `issuer` must be `iss`, if set. `leeway`: tolerated difference of clocks in seconds.
    """

    audience: str | None
    issuer: str | None
    leeway: float


# Subclasses before their base classes.
_FAULTS: Final[tuple[tuple[type[jwt.PyJWTError], JwtFault], ...]] = (
    (jwt.InvalidSignatureError, JwtFault.SIGNATURE),
    (jwt.InvalidAlgorithmError, JwtFault.ALGORITHM),
    (jwt.ExpiredSignatureError, JwtFault.EXPIRED),
    (jwt.ImmatureSignatureError, JwtFault.NOT_YET_VALID),
    (jwt.InvalidAudienceError, JwtFault.AUDIENCE),
    (jwt.InvalidIssuerError, JwtFault.ISSUER),
    (jwt.MissingRequiredClaimError, JwtFault.CLAIMS),
    (jwt.InvalidIssuedAtError, JwtFault.CLAIMS),
    (InvalidSubjectError, JwtFault.CLAIMS),
    (InvalidJTIError, JwtFault.CLAIMS),
    (jwt.PyJWTError, JwtFault.MALFORMED),
)


_JWS: Final = jwt.PyJWS()

# The signature is verified separately before.
_CLAIMS_ONLY: Final[Options] = {
    "verify_signature": False,
    "verify_exp": True,
    "verify_nbf": True,
    "verify_iat": True,
    "verify_aud": True,
    "verify_iss": True,
    "require": ["exp", "sub"],
}


def verify_jwt(token: str, keys: KeySet, rules: JwtRules) -> Claims:
    """Verify a JWT and read its claims. Raises InvalidJwt.

    The key is chosen by `kid`; the key determines the algorithm.
    """
    key = keys.find(read_key_name(token))
    if key is None:
        raise InvalidJwt(JwtFault.UNKNOWN_KEY)
    try:
        claims = read_claims(parse_claims(_signed(token, key)))
        _check(token, rules)
    except InvalidClaims:
        raise InvalidJwt(JwtFault.CLAIMS) from None
    except jwt.PyJWTError as error:
        raise _invalid(error) from None
    return claims


def read_key_name(token: str) -> KeyName:
    """Read the key id of a JWT without verifying it. Raises InvalidJwt."""
    # PyJWT encodes the token first, and a surrogate cannot be encoded.
    if not token.isascii():
        raise InvalidJwt(JwtFault.MALFORMED)
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise _invalid(error) from None
    return KeyName(header.get("kid"), str(header.get("alg")))


def _invalid(error: jwt.PyJWTError) -> InvalidJwt:
    """Map to our fault, without the library's text, which may contain parts of the token."""
    return InvalidJwt(next(fault for kind, fault in _FAULTS if isinstance(error, kind)))


def _signed(token: str, key: Key) -> bytes:
    """Return the signed payload of a JWT. Raises PyJWTError."""
    payload: bytes = _JWS.decode(
        token,
        key.material,
        algorithms=[key.algorithm],
        options={"verify_signature": True, "enforce_minimum_key_length": True},
    )
    return payload


def _check(token: str, rules: JwtRules) -> None:
    """Check times, audience and issuer of a JWT with a valid signature. Raises PyJWTError.

    The types of the claims are checked before: PyJWT accepts what int() reads as a time.
    """
    jwt.decode(
        token,
        audience=rules.audience,
        issuer=rules.issuer,
        leeway=rules.leeway,
        options=_CLAIMS_ONLY,
    )
