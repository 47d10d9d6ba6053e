"""Files of the settings are read at the start; unusable ones stop it with a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from odin_ws.auth.jwt_verifier import JwtVerifier, open_jwt_verifier
from odin_ws.catalogue import default_catalogue, load_catalogue
from odin_ws.settings import Secret, Settings, SettingsError
from tests.jwt_issuer import SECRET, issuer, jwt_settings

OWNER = '[categories.balances]\nwho = "owner"\nclaim = "tokens"\n'

WEATHER = '[[topics]]\nname = "weather.warnings"\ncategory = "warning"\n'


def opened(settings: Settings) -> JwtVerifier:
    """The authority of these settings."""
    return open_jwt_verifier(settings, default_catalogue())


def problem_of(settings: Settings, catalogue: str | None = None) -> str:
    """The line that these settings stop the start with."""
    served = default_catalogue() if catalogue is None else load_catalogue(catalogue)
    with pytest.raises(SettingsError) as caught:
        open_jwt_verifier(settings, served)
    (problem,) = caught.value.problems
    return problem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a file may be."""
    return tmp_path / "file"


def test_secret_verifies_tokens() -> None:
    """Tokens signed with it are valid."""
    assert opened(jwt_settings()).verify(issuer("HS256").token()).user == "ann"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_public_key_file_verifies_tokens(algorithm: str, file: Path) -> None:
    """For each type of key."""
    one = issuer(algorithm)
    file.write_bytes(one.pem)
    jwt_verifier = opened(jwt_settings(ws_jwt_public_key=file))
    assert jwt_verifier.verify(one.token()).user == "ann"
    assert jwt_verifier.key_count == 1


def test_key_set_file_verifies_tokens(file: Path) -> None:
    """It is read at the start."""
    one = issuer("EdDSA", "k")
    file.write_bytes(orjson.dumps({"keys": [one.jwk]}))
    assert opened(jwt_settings(ws_jwks=file)).verify(one.token()).user == "ann"


def test_policy_file_is_applied(file: Path) -> None:
    """Here balances are for their owners."""
    file.write_text(OWNER, "utf-8")
    grant = opened(jwt_settings(ws_policy=file)).verify(issuer("HS256").token(tokens=["BTC"]))
    assert grant.covers("BTC.balances")
    assert not grant.covers("ETH.balances")


@pytest.mark.parametrize(
    ("settings", "content", "problem"),
    [
        ({"ws_jwt_secret": Secret("short")}, None, "WS_JWT_SECRET: must have at least 32 bytes"),
        ("ws_jwt_public_key", b"", "not a public key in PEM"),
        ("ws_jwks", b"{}", "not a JSON Web Key Set"),
        ("ws_jwks", b'{"keys":[{"kty":"oct"}]}', "none of the 1 keys can be used"),
        ("ws_policy", b"[categories.nope]", "categories: unknown key nope"),
        ("ws_policy", b"\xff", "is not UTF-8 text"),
    ],
    ids=["secret", "key", "no set", "useless set", "policy", "not UTF-8"],
)
def test_unusable_file_is_reported(
    settings: Mapping[str, Any] | str, content: bytes | None, problem: str, file: Path
) -> None:
    """The setting, the file and the reason, without secrets."""
    if isinstance(settings, str):
        file.write_bytes(content or b"")
        text = problem_of(jwt_settings(**{settings: file}))
        assert text.startswith(f"{settings.upper()}={file}: ")
    else:
        text = problem_of(jwt_settings(**settings))
        assert "short" not in text
    assert problem in text


@pytest.mark.parametrize("name", ["ws_jwt_public_key", "ws_jwks", "ws_policy"])
def test_file_removed_after_the_settings_is_reported(name: str, file: Path) -> None:
    """Between reading the settings and the file."""
    text = problem_of(jwt_settings(**{name: file}))
    assert text.startswith(f"{name.upper()}={file}: ")
    assert "No such file" in text


def test_unknown_private_category_stops_the_start() -> None:
    """A misspelt category would be open to everyone."""
    text = problem_of(jwt_settings(ws_private_categories=("balance", "social")))
    assert text.startswith("WS_PRIVATE_CATEGORIES=balance,social: the catalogue has no balance;")
    text = problem_of(jwt_settings(), WEATHER)
    assert re.search("has no balances; allowed: warning, or none$", text)
    settings = jwt_settings(ws_private_categories=())
    assert open_jwt_verifier(settings, load_catalogue(WEATHER)).key_count == 1


def test_key_set_url_is_not_fetched_at_the_start() -> None:
    """An issuer that is down must not prevent the start."""
    jwt_verifier = opened(jwt_settings(ws_jwks="https://id.example.com/jwks.json"))
    assert jwt_verifier.keys is None


def test_verifier_prints_no_secret() -> None:
    """In its representation."""
    assert SECRET not in repr(opened(jwt_settings()))
