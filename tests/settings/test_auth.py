"""Settings of authentication: values and combinations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from odin_ws.settings import load_settings
from tests.settings.problems import problems_of

FIELDS = "WS_JWT_SECRET, WS_JWT_PUBLIC_KEY, WS_JWKS"


def value_of(name: str, text: str, **others: str) -> Any:
    """Return the value of a setting whose variable is `text`."""
    settings, unknown = load_settings({name: text, **others})
    assert unknown == []
    return getattr(settings, name.lower())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that exists."""
    path = tmp_path / "file"
    path.touch()
    return path


def test_auth_is_none_or_jwt_in_any_case() -> None:
    """Any other word stops the start."""
    assert value_of("WS_AUTH", "NONE") == "none"
    assert value_of("WS_AUTH", "Jwt", WS_JWT_SECRET="x") == "jwt"  # noqa: S106 -- of a test
    assert problems_of(WS_AUTH="basic") == ["WS_AUTH=basic: must be one of none, jwt"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], "none"),
        (["WS_JWT_SECRET", "WS_JWT_PUBLIC_KEY"], "WS_JWT_SECRET and WS_JWT_PUBLIC_KEY"),
        (["WS_JWT_SECRET", "WS_JWKS"], "WS_JWT_SECRET and WS_JWKS"),
        (FIELDS.split(", "), FIELDS.replace(", ", " and ")),
    ],
)
def test_jwt_needs_exactly_one_source_of_keys(given: list[str], found: str, file: Path) -> None:
    """No key would verify no JWT; two would be ambiguous."""
    assert problems_of(WS_AUTH="jwt", **dict.fromkeys(given, str(file))) == [
        f"WS_AUTH=jwt: exactly one of {FIELDS} must be set; set: {found}"
    ]


@pytest.mark.parametrize("name", [*FIELDS.split(", "), "WS_POLICY"])
def test_keys_without_auth_stop_the_start(name: str, file: Path) -> None:
    """An operator who forgot or misspelt WS_AUTH would serve everybody."""
    problems = problems_of(**{name: str(file)})
    assert problems == [f"{name} is set, but WS_AUTH=none: clients would not be authenticated"]


@pytest.mark.parametrize("name", ["WS_JWT_PUBLIC_KEY", "WS_JWKS", "WS_POLICY"])
def test_missing_file_stops_the_start(name: str, tmp_path: Path) -> None:
    """A wrong path or a directory is reported at the start."""
    for wrong in (tmp_path, tmp_path / "none"):
        (problem,) = problems_of(**{name: str(wrong)})
        assert problem.startswith(f"{name}={wrong}: must be the path of an existing file")


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.com/jwks.json",
        "https://id.example.com:8443/a?b=c",
        "http://localhost:8080/jwks.json",
        "http://127.0.0.1/jwks.json",
        "http://127.8.9.1/jwks.json",
        "http://[::1]:80/jwks.json",
    ],
)
def test_keys_url_is_https_or_loopback(url: str) -> None:
    """Keys may come over TLS, or without TLS from this machine."""
    assert value_of("WS_JWKS", url, WS_AUTH="jwt") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.com/jwks.json",
        "http://localhost.example.com/jwks.json",
        "http://127.0.0.1.example.com/",
        "http://10.0.0.1/jwks.json",
        "https:///jwks.json",
        "https://user:password@id.example.com/",
        "http://127.0.0.1@id.example.com/",
        "ftp://id.example.com/",
        "file:///etc/passwd",
        "https://[::1",
    ],
)
def test_other_keys_url_stops_the_start(url: str) -> None:
    """Who can change an answer on its way could let anybody in; and a URL is shown."""
    (problem,) = problems_of(WS_JWKS=url, WS_AUTH="jwt")
    assert "an https URL (http only to this machine)" in problem


@pytest.mark.parametrize("name", ["WS_JWT_AUDIENCE", "WS_JWT_ISSUER"])
def test_audience_and_issuer_are_any_text(name: str) -> None:
    """Issuers have names of any form."""
    assert value_of(name, "https://id.example.com/ odin") == "https://id.example.com/ odin"


def test_flag_is_true_or_false() -> None:
    """No other word is accepted."""
    assert value_of("WS_TOKEN_IN_QUERY", "TRUE") is True
    assert value_of("WS_TOKEN_IN_QUERY", "false") is False
    for text in ("yes", "1", "0", "on", "truefalse"):
        assert problems_of(WS_TOKEN_IN_QUERY=text) == [
            f"WS_TOKEN_IN_QUERY={text}: must be true or false"
        ]


def test_private_categories_can_be_none() -> None:
    """The word `none` empties the list: an empty variable counts as unset."""
    assert value_of("WS_PRIVATE_CATEGORIES", "balances, social") == ("balances", "social")
    assert value_of("WS_PRIVATE_CATEGORIES", "none") == ()
    assert problems_of(WS_PRIVATE_CATEGORIES=",") == [
        "WS_PRIVATE_CATEGORIES=,: must be categories, separated by commas, or the word none"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "https://example.com",
        "https://example.com:8443",
        "https://*.example.com",
        "http://localhost:3000,https://*.example.com",
        "http://[::1]:3000",
        "capacitor://localhost",
    ],
)
def test_origins_are_schemes_and_hosts(text: str) -> None:
    """Several origins are separated by commas."""
    assert value_of("WS_ALLOWED_ORIGINS", text.upper()) == tuple(text.split(","))


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "https://",
        "https://example.com/",
        "https://example.com/app",
        "https://ex*mple.com",
        "https://*",
        "https://*.*.example.com",
        "*.example.com",
        "https://a.com https://b.com",
        "null",
        ",",
    ],
)
def test_invalid_origin_stops_the_start(text: str) -> None:
    """An invalid origin would never match, or match more than intended."""
    (problem,) = problems_of(WS_ALLOWED_ORIGINS=text)
    assert problem.startswith(
        f"WS_ALLOWED_ORIGINS={text}: must be https://example.com or https://*."
    )
