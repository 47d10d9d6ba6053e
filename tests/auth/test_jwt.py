"""A JWT is valid if its signature, times, audience, issuer and claims are."""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import Any, Final

import jwt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.auth.faults import InvalidJwt, JwtFault
from odin_ws.auth.jwt import JwtRules, read_key_name, verify_jwt
from odin_ws.auth.keys import KeySet, key_set, public_key, shared_secret
from tests.jwt_issuer import ALGORITHMS, SECRET, Issuer, issuer, raw_token

RULES: Final = JwtRules(audience=None, issuer=None, leeway=0)


def keys_of(one: Issuer) -> KeySet:
    """The keys of a server that is configured for an issuer."""
    return shared_secret(SECRET) if one.algorithm == "HS256" else public_key(one.pem)


def fault_of(token: str, keys: KeySet, rules: JwtRules = RULES) -> JwtFault:
    """What a token is rejected for."""
    with pytest.raises(InvalidJwt) as caught:
        verify_jwt(token, keys, rules)
    return caught.value.fault


@pytest.fixture(params=ALGORITHMS)
def one(request: pytest.FixtureRequest) -> Issuer:
    """An issuer for each algorithm."""
    return issuer(str(request.param))


def test_valid_token_is_read(one: Issuer) -> None:
    """With each algorithm."""
    end = int(time.time()) + 60
    token = one.sign(
        {
            "sub": "ann",
            "exp": end,
            "jti": "t-1",
            "channels": ["*.trade"],
            "max_subscriptions": 5,
            "tokens": ["BTC"],
        }
    )
    claims = verify_jwt(token, keys_of(one), RULES)
    assert (claims.user, claims.expires_at, claims.token_id) == ("ann", end, "t-1")
    assert (claims.channels, claims.max_subscriptions) == (("*.trade",), 5)
    assert claims.all["tokens"] == ["BTC"]


def test_missing_optional_claims_are_none(one: Issuer) -> None:
    """Only `sub` and `exp` are required."""
    claims = verify_jwt(one.token(), keys_of(one), RULES)
    assert (claims.token_id, claims.channels, claims.max_subscriptions) == (None, None, None)


def test_signature_of_another_key_is_rejected(one: Issuer) -> None:
    """Whatever the header says."""
    other = (
        Issuer("HS256", SECRET[::-1]) if one.algorithm == "HS256" else issuer(one.algorithm, "x")
    )
    assert fault_of(other.token(), keys_of(one)) is JwtFault.SIGNATURE


@pytest.mark.parametrize("part", [0, 1, 2])
def test_modified_token_is_rejected(one: Issuer, part: int) -> None:
    """In any of its parts."""
    keys = keys_of(one)
    parts = one.token().split(".")
    middle = len(parts[part]) // 2
    letter = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + letter + parts[part][middle + 1 :]
    assert fault_of(".".join(parts), keys) in {
        JwtFault.SIGNATURE,
        JwtFault.MALFORMED,
        JwtFault.ALGORITHM,
    }


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, [], {}], ids=repr)
def test_alg_none_is_rejected(one: Issuer, alg: Any) -> None:
    """In any spelling (CVE-2015-9235)."""
    payload = {"sub": "ann", "exp": time.time() + 60}
    assert fault_of(raw_token({"alg": alg, "typ": "JWT"}, payload), keys_of(one)) in {
        JwtFault.ALGORITHM,
        JwtFault.MALFORMED,
    }


@pytest.mark.parametrize("of", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("hashed", ["HS256", "HS384"])
def test_hmac_with_the_public_key_is_rejected(of: str, hashed: str) -> None:
    """CVE-2016-5431."""
    one = issuer(of)
    unsigned = raw_token({"alg": hashed, "typ": "JWT"}, {"sub": "ann", "exp": time.time() + 60})
    head = unsigned.rpartition(".")[0]
    for secret in (one.pem, one.pem.rstrip(), one.jwk.get("n", one.jwk.get("x", "")).encode()):
        signature = hmac.new(secret, head.encode(), sha256).digest()
        forged = head + "." + raw_token({}, {}, signature).rpartition(".")[2]
        assert fault_of(forged, public_key(one.pem)) is JwtFault.ALGORITHM
        assert fault_of(forged, key_set(_jwks(one))) in {
            JwtFault.ALGORITHM,
            JwtFault.UNKNOWN_KEY,
        }


def _jwks(*issuers: Issuer) -> bytes:
    return orjson.dumps({"keys": [issuer.jwk for issuer in issuers]})


@pytest.mark.parametrize("of", ALGORITHMS)
@pytest.mark.parametrize("by", ALGORITHMS)
def test_key_is_used_only_with_its_algorithm(of: str, by: str) -> None:
    """Other tokens are rejected before the signature is checked."""
    if of != by:
        assert fault_of(issuer(by).token(), keys_of(issuer(of))) is JwtFault.ALGORITHM


@pytest.mark.parametrize(
    ("claims", "fault"),
    [
        ({"exp": None}, JwtFault.CLAIMS),
        ({"exp": "soon"}, JwtFault.CLAIMS),
        ({"exp": "4102444800"}, JwtFault.CLAIMS),
        ({"exp": True}, JwtFault.CLAIMS),
        ({"exp": [4102444800]}, JwtFault.CLAIMS),
        ({"exp": 10**400}, JwtFault.CLAIMS),
        ({"exp": 1e300}, JwtFault.CLAIMS),
        ({"exp": 2**53 + 2}, JwtFault.CLAIMS),
        ({"exp": -(10**400)}, JwtFault.CLAIMS),
        ({"exp": float("nan")}, JwtFault.CLAIMS),
        ({"exp": float("inf")}, JwtFault.CLAIMS),
        ({"nbf": float("-inf")}, JwtFault.CLAIMS),
        ({"nbf": "0"}, JwtFault.CLAIMS),
        ({"nbf": [0]}, JwtFault.CLAIMS),
        ({"iat": True}, JwtFault.CLAIMS),
        ({"iat": -(10**400)}, JwtFault.CLAIMS),
        ({"iat": {}}, JwtFault.CLAIMS),
        ({"sub": "\ud800"}, JwtFault.CLAIMS),
        ({"sub": "ann\udfff"}, JwtFault.CLAIMS),
        ({"sub": "ann\n"}, JwtFault.CLAIMS),
        ({"sub": "\x00"}, JwtFault.CLAIMS),
        ({"sub": "ann\x1b[2J"}, JwtFault.CLAIMS),
        ({"sub": "ann\x7f"}, JwtFault.CLAIMS),
        ({"sub": "ann\x85bob"}, JwtFault.CLAIMS),
        ({"sub": "ann\u2028bob"}, JwtFault.CLAIMS),
        ({"sub": ["ann"]}, JwtFault.CLAIMS),
        ({"jti": "\ud83d"}, JwtFault.CLAIMS),
        ({"jti": "a\tb"}, JwtFault.CLAIMS),
        ({"channels": ["\ud800.trade"]}, JwtFault.CLAIMS),
        ({"channels": ["BTC.trade", "\r\n.trade"]}, JwtFault.CLAIMS),
        ({"channels": ["x" * 257]}, JwtFault.CLAIMS),
        ({"channels": [f"{number}.trade" for number in range(1025)]}, JwtFault.CLAIMS),
        ({"channels": [["BTC.trade"]]}, JwtFault.CLAIMS),
        ({"channels": ["BTC.trade", 10**400]}, JwtFault.CLAIMS),
        ({"max_subscriptions": 10**400}, JwtFault.CLAIMS),
        ({"max_subscriptions": 2**63}, JwtFault.CLAIMS),
        ({"of_somebody_else": float("nan")}, JwtFault.CLAIMS),
        ({"of_somebody_else": "\udc00"}, JwtFault.CLAIMS),
        ({"exp": -1}, JwtFault.EXPIRED),
        ({"sub": None}, JwtFault.CLAIMS),
        ({"sub": ""}, JwtFault.CLAIMS),
        ({"sub": 7}, JwtFault.CLAIMS),
        ({"sub": "x" * 257}, JwtFault.CLAIMS),
        ({"jti": 7}, JwtFault.CLAIMS),
        ({"jti": ""}, JwtFault.CLAIMS),
        ({"channels": "*.trade"}, JwtFault.CLAIMS),
        ({"channels": [1]}, JwtFault.CLAIMS),
        ({"channels": {}}, JwtFault.CLAIMS),
        ({"max_subscriptions": -1}, JwtFault.CLAIMS),
        ({"max_subscriptions": "5"}, JwtFault.CLAIMS),
        ({"max_subscriptions": True}, JwtFault.CLAIMS),
        ({"max_subscriptions": 1.5}, JwtFault.CLAIMS),
        ({"iat": "now"}, JwtFault.CLAIMS),
    ],
    ids=lambda one: str(one)[:40],
)
def test_invalid_claim_is_rejected(claims: dict[str, Any], fault: JwtFault) -> None:
    """Even with a valid signature."""
    payload = {"sub": "ann", "exp": time.time() + 60, **claims}
    given = {name: value for name, value in payload.items() if value is not None}
    assert fault_of(_sign_anything(given), shared_secret(SECRET)) is fault


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        '{"sub":' * 3000,
        "[]",
        "7",
        "",
        '{"exp":1' + "0" * 5000 + "}",
        '{"sub":"\xff"}',
    ],
    ids=lambda text: text[:8],
)
def test_payload_that_is_no_json_object_is_rejected(text: str) -> None:
    """The issuer may sign anything."""
    token = jwt.PyJWS().encode(text.encode("latin-1"), SECRET, "HS256")
    assert fault_of(token, shared_secret(SECRET)) in {JwtFault.CLAIMS, JwtFault.MALFORMED}


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "\U0001f600" * 256},
        {"sub": "Z\u00fcrich \u200c\u0434"},
        {"sub": " "},
        {"exp": 2**53},
        {"exp": 4102444800.75},
        {"channels": [f"{number}.trade" for number in range(1024)]},
        {"channels": ["", "no such name", "\u00e4.trade"]},
        {"max_subscriptions": 2**53},
        {"of_somebody_else": {"deep": [[[1.5]]], "null": None}},
    ],
    ids=lambda one: str(one)[:40],
)
def test_claim_at_its_limit_is_accepted(claims: dict[str, Any]) -> None:
    """Claims of other services are ignored."""
    token = _sign_anything({"sub": "ann", "exp": 4102444800, **claims})
    assert verify_jwt(token, shared_secret(SECRET), RULES).expires_at >= 4102444800


@pytest.mark.parametrize(
    ("seconds", "claims", "fault"),
    [
        (-5, {}, None),
        (-15, {}, JwtFault.EXPIRED),
        (60, {"nbf": 5}, None),
        (60, {"nbf": 15}, JwtFault.NOT_YET_VALID),
        (60, {"iat": 15}, JwtFault.NOT_YET_VALID),
    ],
)
def test_times_have_a_leeway(
    seconds: float, claims: dict[str, float], fault: JwtFault | None
) -> None:
    """Clocks may differ by ten seconds here."""
    times = {name: int(time.time() + value) for name, value in claims.items()}
    token = issuer("ES256").token(seconds, **times)
    rules = JwtRules(None, None, leeway=10)
    keys = keys_of(issuer("ES256"))
    if fault is None:
        assert verify_jwt(token, keys, rules).user == "ann"
    else:
        assert fault_of(token, keys, rules) is fault


@pytest.mark.parametrize(
    ("wanted", "claim", "good"),
    [
        ("odin", "odin", True),
        ("odin", ["other", "odin"], True),
        ("odin", "other", False),
        ("odin", ["other"], False),
        ("odin", None, False),
        ("odin", "odin2", False),
        # RFC 7519, 4.1.3: who is not named must not take it.
        (None, "odin", False),
        (None, None, True),
    ],
)
def test_wrong_audience_is_rejected(wanted: str | None, claim: Any, *, good: bool) -> None:
    """A token for another service must not work here."""
    token = issuer("HS256").token(aud=claim)
    rules = JwtRules(wanted, None, 0)
    if good:
        assert verify_jwt(token, shared_secret(SECRET), rules).user == "ann"
    else:
        expected = {JwtFault.AUDIENCE, JwtFault.CLAIMS}
        assert fault_of(token, shared_secret(SECRET), rules) in expected


@pytest.mark.parametrize(
    ("wanted", "claim", "good"),
    [
        ("https://id", "https://id", True),
        ("https://id", "https://id/", False),
        ("https://id", None, False),
        ("https://id", ["https://id"], False),
        (None, "anybody", True),
    ],
)
def test_wrong_issuer_is_rejected(wanted: str | None, claim: Any, *, good: bool) -> None:
    """Exact comparison, if set."""
    payload = {"sub": "ann", "exp": time.time() + 60} | ({"iss": claim} if claim else {})
    token = _sign_anything(payload)
    rules = JwtRules(None, wanted, 0)
    if good:
        assert verify_jwt(token, shared_secret(SECRET), rules).user == "ann"
    else:
        assert fault_of(token, shared_secret(SECRET), rules) in {
            JwtFault.ISSUER,
            JwtFault.CLAIMS,
        }


def _sign_anything(payload: dict[str, Any]) -> str:
    """A good signature of what the library would not sign."""
    head = raw_token({"alg": "HS256", "typ": "JWT"}, payload).rpartition(".")[0]
    signature = hmac.new(SECRET.encode(), head.encode(), sha256).digest()
    return head + "." + raw_token({}, {}, signature).rpartition(".")[2]


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "b64": False},
        {"alg": "HS256", "kid": 7},
        {"alg": "HS256", "kid": ["a"]},
        [],
        "HS256",
        None,
    ],
    ids=str,
)
def test_invalid_header_is_rejected(header: Any) -> None:
    """Unknown critical extensions, and malformed headers."""
    token = raw_token(header, {"sub": "ann", "exp": time.time() + 60}, b"x" * 32)
    assert fault_of(token, shared_secret(SECRET)) is JwtFault.MALFORMED


ANYTHING = st.text(max_size=200) | st.tuples(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), inner)
        ),
        max_leaves=10,
    ),
    st.dictionaries(st.sampled_from(["sub", "exp", "nbf"]), st.floats() | st.text(max_size=5)),
    st.binary(max_size=70),
).map(lambda parts: raw_token(*parts))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(token=ANYTHING)
def test_any_text_is_valid_or_raises_invalid_jwt(algorithm: str, token: str) -> None:
    """The error does not contain the token."""
    with pytest.raises(InvalidJwt) as caught:
        verify_jwt(token, keys_of(issuer(algorithm)), RULES)
    assert str(caught.value) == "the token is not valid"


def test_key_is_found_by_id() -> None:
    """In any order; an unknown id has none."""
    issuers = [issuer("RS256", "r"), issuer("ES256", "e"), issuer("EdDSA", "d")]
    keys = key_set(_jwks(*issuers))
    for one in issuers:
        assert verify_jwt(one.token(), keys, RULES).user == "ann"
    stranger = Issuer("ES256", issuer("ES256", "e").key, "other")
    assert keys.find(read_key_name(stranger.token())) is None
    assert fault_of(stranger.token(), keys) is JwtFault.UNKNOWN_KEY
    nameless = Issuer("ES256", issuer("ES256", "e").key)
    assert fault_of(nameless.token(), keys) is JwtFault.UNKNOWN_KEY


def test_token_without_id_uses_the_only_key() -> None:
    """Issuers with one key need not name it."""
    one = issuer("EdDSA", "d")
    nameless = Issuer("EdDSA", one.key)
    assert verify_jwt(nameless.token(), key_set(_jwks(one)), RULES).user == "ann"


def test_keys_of_two_kinds_may_share_an_id() -> None:
    """RFC 7517, 4.5: the type decides."""
    issuers = [issuer("RS256", "same"), issuer("ES256", "same")]
    keys = key_set(_jwks(*issuers))
    for one in issuers:
        assert verify_jwt(one.token(), keys, RULES).user == "ann"
    third = issuer("EdDSA", "same")
    assert fault_of(third.token(), keys) is JwtFault.ALGORITHM


def test_single_key_matches_every_id() -> None:
    """A PEM file has no id."""
    one = issuer("RS256", "named")
    assert verify_jwt(one.token(), public_key(one.pem), RULES).user == "ann"
