"""Usable keys are accepted, others rejected."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm

from odin_ws.auth.keys import InvalidKey, key_set, public_key, shared_secret
from tests.jwt_issuer import SECRET, Issuer, issuer


def pem(key: Any) -> bytes:
    """A public key as a file has it."""
    found: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def jwks(*rows: Any) -> bytes:
    """A JSON Web Key Set of these."""
    return orjson.dumps({"keys": list(rows)})


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_algorithm_follows_from_the_key(algorithm: str) -> None:
    """In a PEM file and in a set."""
    one = issuer(algorithm, "k")
    for keys in (public_key(one.pem), key_set(jwks(one.jwk))):
        assert [key.algorithm for key in keys.keys] == [algorithm]


def test_short_secret_is_rejected() -> None:
    """RFC 7518, 3.2: at least 32 bytes for HS256."""
    (key,) = shared_secret("x" * 32).keys
    assert key.algorithm == "HS256"
    with pytest.raises(InvalidKey, match="must have at least 32 bytes, not 31"):
        shared_secret("x" * 31)


def test_public_key_as_secret_is_rejected() -> None:
    """In the wrong setting it would be a secret that everybody knows."""
    with pytest.raises(InvalidKey, match="not a public key"):
        shared_secret(issuer("ES256").pem.decode())


def test_key_prints_no_secret() -> None:
    """Neither in its representation nor in errors."""
    (key,) = shared_secret(SECRET).keys
    assert SECRET not in repr(key)
    with pytest.raises(InvalidKey) as caught:
        shared_secret("hush" * 7)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no key",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        pem(rsa.generate_private_key(65537, 1024).public_key()),  # noqa: S505 -- that is the point
        pem(ec.generate_private_key(ec.SECP384R1()).public_key()),
        pem(ed448.Ed448PrivateKey.generate().public_key()),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
    ],
    ids=["nothing", "text", "broken", "short RSA", "P-384", "Ed448", "private"],
)
def test_unusable_key_file_is_rejected(text: bytes) -> None:
    """Malformed, weak, of another type, or private; the error says what is allowed."""
    with pytest.raises(InvalidKey, match="RSA key of 2048 bits or more, a P-256 or an Ed25519 key"):
        public_key(text)


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


GOOD = issuer("ES256", "good").jwk
RSA = issuer("RS256", "rsa").jwk

BAD: dict[str, Any] = {
    "a text": "key",
    "nothing": None,
    "no kind": _without(GOOD, "kty"),
    "another kind": GOOD | {"kty": "AKP"},
    "no curve": _without(GOOD, "crv"),
    "another curve": GOOD | {"crv": "P-384"},
    "a curve that is no text": GOOD | {"crv": ["P-256"]},
    "another algorithm": GOOD | {"alg": "ES384"},
    "an algorithm that is no text": GOOD | {"alg": []},
    "for encryption": GOOD | {"use": "enc"},
    "for signing only": GOOD | {"key_ops": ["sign"]},
    "operations that are no list": GOOD | {"key_ops": "verify"},
    "an id that is no text": GOOD | {"kid": 7},
    "private": GOOD | ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True),
    "no point": _without(GOOD, "y"),
    "not on the curve": GOOD | {"y": GOOD["x"]},
    "a number": GOOD | {"x": 7},
    "secret": {"kty": "oct", "k": "A" * 43, "kid": "s"},
    "PSS": RSA | {"alg": "PS256"},
    "short RSA": RSA | {"n": RSA["n"][:100]},
    "no modulus": _without(RSA, "n"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_usable_keys_of_a_set_are_used(bad: Any) -> None:
    """Others are skipped."""
    keys = key_set(jwks(bad, GOOD, bad))
    assert [key.id for key in keys.keys] == ["good"]
    with pytest.raises(InvalidKey, match="none of the 1 keys can be used"):
        key_set(jwks(bad))


@pytest.mark.parametrize(
    "extra", [{"alg": "ES256"}, {"use": "sig"}, {"key_ops": ["verify"]}, {"x5c": ["A"]}], ids=str
)
def test_optional_fields_of_a_key_are_compatible(extra: dict[str, Any]) -> None:
    """Issuers include more or less of them."""
    assert key_set(jwks(GOOD | extra)).keys


def test_ed25519_has_two_names() -> None:
    """RFC 9864 names the algorithm by its curve; RFC 8037 did not."""
    row = issuer("EdDSA").jwk
    for name in ("EdDSA", "Ed25519"):
        (key,) = key_set(jwks(row | {"alg": name})).keys
        assert key.algorithm == "EdDSA"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[]}', b"7"])
def test_invalid_key_set_is_reported(text: bytes) -> None:
    """For example another page with status 200."""
    with pytest.raises(InvalidKey):
        key_set(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("AB-", max_size=5),
    lambda inner: st.lists(inner, max_size=2),
)


@given(st.dictionaries(st.sampled_from([*GOOD, *RSA, "use", "alg", "key_ops", "d", "k"]), JSON))
def test_any_entry_of_a_set_is_used_or_skipped(changes: dict[str, Any]) -> None:
    """Whatever its fields are."""
    for row in (GOOD, RSA):
        assert key_set(jwks(row | changes, GOOD)).keys


def test_duplicate_key_is_accepted() -> None:
    """Rotations overlap."""
    one = Issuer("ES256", issuer("ES256", "good").key, "good")
    assert len(key_set(jwks(one.jwk, one.jwk)).keys) == 2
