"""The keys that verify JWTs: shared secret, PEM, JWK; each with one algorithm.

So a JWT's header never chooses the algorithm: neither `none`, nor HS256 with a public key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs
import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

__all__ = ["InvalidKey", "Key", "KeyName", "KeySet", "key_set", "public_key", "shared_secret"]

# RFC 7518, 3.2: a key of at least the hash's size; 3.3: at least 2048 bits.
_MIN_SECRET_BYTES: Final = 32
_MIN_RSA_BITS: Final = 2048

_PUBLIC: Final = "an RSA key of 2048 bits or more, a P-256 or an Ed25519 key"

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

# The algorithm of a JSON Web Key, by its kty and crv.
_KINDS: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}

# RFC 9864 has another name for EdDSA with this curve.
_ALIASES: Final = {"Ed25519": "EdDSA"}


class InvalidKey(ValueError):
    """The key cannot verify JWTs; the message has nothing of the key."""


@attrs.frozen
class Key:
    """A key with its only algorithm. `id`: its `kid`, None without one."""

    algorithm: str
    material: bytes | PublicKey = attrs.field(repr=False)
    id: str | None = None


@attrs.frozen
class KeyName:
    """The `kid` of a JWT's header, None if missing, and its `alg`."""

    id: str | None
    algorithm: str


class KeySet:
    """Keys to choose from: `by_id` by the JWT's `kid`, otherwise one key for all JWTs."""

    def __init__(self, keys: Iterable[Key], *, by_id: bool) -> None:
        self.keys = tuple(keys)
        self._by_id = by_id

    def find(self, name: KeyName) -> Key | None:
        """Return the key for this header of a JWT; None if there is none with that id.

        Several keys may share an id if their types differ. Does not check the algorithm.
        """
        alone = not self._by_id or (name.id is None and len(self.keys) == 1)
        found = self.keys if alone else [key for key in self.keys if key.id == name.id]
        if name.id is None and not alone:
            return None
        return next(
            (key for key in found if key.algorithm == name.algorithm), found[0] if found else None
        )


def shared_secret(secret: str) -> KeySet:
    """Return a key set with one shared secret. Raises InvalidKey."""
    material = secret.encode()
    if len(material) < _MIN_SECRET_BYTES:
        raise InvalidKey(f"must have at least {_MIN_SECRET_BYTES} bytes, not {len(material)}")
    try:
        jwt.get_algorithm_by_name("HS256").prepare_key(material)
    except jwt.InvalidKeyError:
        raise InvalidKey("must be a secret, not a public key or certificate") from None
    return KeySet([Key("HS256", material)], by_id=False)


def public_key(pem: bytes) -> KeySet:
    """Return a key set with one public key. Raises InvalidKey."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey(f"not a public key in PEM: must be {_PUBLIC}") from None
    if isinstance(key, RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        found = Key("RS256", key)
    elif isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        found = Key("ES256", key)
    elif isinstance(key, Ed25519PublicKey):
        found = Key("EdDSA", key)
    else:
        raise InvalidKey(f"must be {_PUBLIC}")
    return KeySet([found], by_id=False)


def key_set(text: bytes) -> KeySet:
    """Return the usable keys of a JSON Web Key Set (RFC 7517). Raises InvalidKey if there are none.

    Skips keys of other types, for encryption, weak or private keys, and secrets, which must not be
    public.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidKey("not JSON") from None
    rows = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise InvalidKey("not a JSON Web Key Set: must be an object with a list of keys")
    keys = [key for row in rows if (key := _usable(row)) is not None]
    if not keys:
        raise InvalidKey(f"none of the {len(rows)} keys can be used: must be {_PUBLIC}")
    return KeySet(keys, by_id=True)


def _usable(row: Any) -> Key | None:
    if not isinstance(row, dict):
        return None
    algorithm = _KINDS.get((str(row.get("kty")), row["crv"] if _is_text(row, "crv") else None))
    if algorithm is None or not _is_meant(row, algorithm):
        return None
    try:
        material = jwt.PyJWK(row, algorithm).key
    except jwt.PyJWTError:
        return None
    if isinstance(material, RSAPublicKey) and material.key_size < _MIN_RSA_BITS:
        return None
    return Key(algorithm, material, row.get("kid"))


def _is_meant(row: dict[str, Any], algorithm: str) -> bool:
    """Return whether a key is public and for verifying signatures of this kind."""
    named, operations = row.get("alg", algorithm), row.get("key_ops", ["verify"])
    return (
        "d" not in row
        and row.get("use", "sig") == "sig"
        and algorithm in (named, _ALIASES.get(str(named)))
        and isinstance(operations, list)
        and "verify" in operations
        and ("kid" not in row or _is_text(row, "kid"))
    )


def _is_text(row: dict[str, Any], field: str) -> bool:
    return isinstance(row.get(field), str)
