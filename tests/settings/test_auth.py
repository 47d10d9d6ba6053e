"""The settings of who may come in: what they may be, and what they may not be together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from odin_ws.settings import load_settings
from tests.settings.problems import problems_of

FIELDS = "WS_JWT_SECRET, WS_JWT_PUBLIC_KEY, WS_JWKS"


def value_of(name: str, text: str, **others: str) -> Any:
    """What a setting is when its variable is set to `text`."""
    settings, unknown = load_settings({name: text, **others})
    assert unknown == []
    return getattr(settings, name.lower())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that exists."""
    path = tmp_path / "file"
    path.touch()
    return path


def test_auth_is_one_of_two() -> None:
    """In capitals or not."""
    assert value_of("WS_AUTH", "NONE") == "none"
    assert value_of("WS_AUTH", "Jwt", WS_JWT_SECRET="x") == "jwt"  # noqa: S106 -- of a test
    assert problems_of(WS_AUTH="basic") == ["WS_AUTH=basic: allowed is one of none, jwt"]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([], "none"),
        (["WS_JWT_SECRET", "WS_JWT_PUBLIC_KEY"], "WS_JWT_SECRET and WS_JWT_PUBLIC_KEY"),
        (["WS_JWT_SECRET", "WS_JWKS"], "WS_JWT_SECRET and WS_JWKS"),
        (FIELDS.split(", "), FIELDS.replace(", ", " and ")),
    ],
)
def test_exactly_one_source_of_keys_is_needed(given: list[str], found: str, file: Path) -> None:
    """With none nobody gets in; of two nobody knows which is meant."""
    assert problems_of(WS_AUTH="jwt", **dict.fromkeys(given, str(file))) == [
        f"WS_AUTH=jwt: exactly one of {FIELDS} is needed; there is {found}"
    ]


@pytest.mark.parametrize("name", [*FIELDS.split(", "), "WS_POLICY"])
def test_keys_without_auth_stop_the_start(name: str, file: Path) -> None:
    """Whoever forgot or misspelt WS_AUTH would serve everybody."""
    problems = problems_of(**{name: str(file)})
    assert problems == [f"{name} is set, but WS_AUTH=none: nobody would be asked for a token"]


@pytest.mark.parametrize("name", ["WS_JWT_PUBLIC_KEY", "WS_JWKS", "WS_POLICY"])
def test_a_file_has_to_exist(name: str, tmp_path: Path) -> None:
    """A wrong path is told at the start, a folder too."""
    for wrong in (tmp_path, tmp_path / "none"):
        (problem,) = problems_of(**{name: str(wrong)})
        assert problem.startswith(f"{name}={wrong}: allowed is the path of a file that exists")


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
def test_keys_may_come_from_a_safe_url(url: str) -> None:
    """Over TLS, or without it from this machine."""
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
def test_keys_may_not_come_from_another_url(url: str) -> None:
    """Who can change an answer on its way could let anybody in; and a URL is shown."""
    (problem,) = problems_of(WS_JWKS=url, WS_AUTH="jwt")
    assert "a https URL (http only to this machine)" in problem


@pytest.mark.parametrize("name", ["WS_JWT_AUDIENCE", "WS_JWT_ISSUER"])
def test_audience_and_issuer_are_any_text(name: str) -> None:
    """Issuers call themselves as they like."""
    assert value_of(name, "https://id.example.com/ odin") == "https://id.example.com/ odin"


def test_a_flag_is_true_or_false() -> None:
    """No other word is taken for one of them."""
    assert value_of("WS_TOKEN_IN_QUERY", "TRUE") is True
    assert value_of("WS_TOKEN_IN_QUERY", "false") is False
    for text in ("yes", "1", "0", "on", "truefalse"):
        assert problems_of(WS_TOKEN_IN_QUERY=text) == [
            f"WS_TOKEN_IN_QUERY={text}: allowed is true or false"
        ]


def test_private_categories_are_a_list_that_can_be_empty() -> None:
    """By a word of its own: a variable that is set to nothing counts as not set."""
    assert value_of("WS_PRIVATE_CATEGORIES", "balances, social") == ("balances", "social")
    assert value_of("WS_PRIVATE_CATEGORIES", "none") == ()
    assert problems_of(WS_PRIVATE_CATEGORIES=",") == [
        "WS_PRIVATE_CATEGORIES=,: allowed is categories separated by commas, or none"
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
    """Several are separated by commas."""
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
def test_what_is_no_origin_stops_the_start(text: str) -> None:
    """It would never be equal to what a browser sends, or to more than was meant."""
    (problem,) = problems_of(WS_ALLOWED_ORIGINS=text)
    assert problem.startswith(
        f"WS_ALLOWED_ORIGINS={text}: allowed is https://example.com or https://*."
    )
