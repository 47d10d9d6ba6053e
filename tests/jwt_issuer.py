"""An issuer of tokens, with keys of every kind."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import attrs
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from odin_ws.settings import Secret, Settings

__all__ = [
    "ALGORITHMS",
    "SECRET",
    "TOKENS_ARE_ASKED_FOR",
    "Issuer",
    "issuer",
    "jwt_settings",
    "raw_token",
]

SECRET: Final = "a secret of thirty-two bytes or more"  # noqa: S105 -- of tests

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@attrs.frozen
class Issuer:
    """Signs tokens with one key; `id` is the key's."""

    algorithm: str
    key: PrivateKey | str
    id: str | None = None

    def token(self, seconds: float = 3600, **claims: Any) -> str:
        """Return a token of `ann` with this lifetime, whose end is a whole second.

        Claims replace hers or are added; None omits one.
        """
        payload = {"sub": "ann", "exp": int(time.time() + seconds), **claims}
        given = {name: value for name, value in payload.items() if value is not None}
        return self.sign(given)

    def sign(self, payload: Mapping[str, Any]) -> str:
        """Return a token with exactly these claims."""
        headers = None if self.id is None else {"kid": self.id}
        return jwt.encode(dict(payload), self.key, self.algorithm, headers)

    @property
    def pem(self) -> bytes:
        """The public key."""
        assert not isinstance(self.key, str)
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as an entry of a JSON Web Key Set."""
        if isinstance(self.key, rsa.RSAPrivateKey):
            entry: dict[str, Any] = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        elif isinstance(self.key, ec.EllipticCurvePrivateKey):
            entry = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        else:
            assert not isinstance(self.key, str)
            entry = OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return entry | ({} if self.id is None else {"kid": self.id})


@cache
def issuer(algorithm: str, key_id: str | None = None) -> Issuer:
    """Return an issuer with a key for this algorithm, the same each time."""
    match algorithm:
        case "HS256":
            return Issuer(algorithm, SECRET, key_id)
        case "RS256":
            return Issuer(algorithm, rsa.generate_private_key(65537, 2048), key_id)
        case "ES256":
            return Issuer(algorithm, ec.generate_private_key(ec.SECP256R1()), key_id)
        case _:
            return Issuer(algorithm, ed25519.Ed25519PrivateKey.generate(), key_id)


def jwt_settings(**others: Any) -> Settings:
    """Settings of a server that accepts the issuer's tokens with the shared secret."""
    keys = others.keys() & {"ws_jwt_secret", "ws_jwt_public_key", "ws_jwks"}
    given: dict[str, Any] = {} if keys else {"ws_jwt_secret": Secret(SECRET)}
    return Settings(ws_auth="jwt", **given, **others)


# For scenarios whose server accepts the issuer's tokens with the shared secret.
TOKENS_ARE_ASKED_FOR: Final = pytest.mark.odin_settings(ws_auth="jwt", ws_jwt_secret=Secret(SECRET))


def raw_token(header: Any, payload: Any, signature: bytes = b"") -> str:
    """Return a token of arbitrary parts, as an attacker makes it."""
    parts = [json.dumps(part).encode() for part in (header, payload)]
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature)
    )
