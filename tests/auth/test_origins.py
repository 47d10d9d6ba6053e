"""Pages of the listed origins may connect, similar ones may not."""

from __future__ import annotations

import pytest

from odin_ws.auth.origins import Origins

LISTED = Origins(["https://example.com", "https://*.example.org", "http://localhost:8080"])


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "https://example.com",
        "https://EXAMPLE.com",
        "https://example.com:443",
        "https://a.example.org",
        "https://a-1.b.example.org",
        "https://a.example.org:443",
        "http://localhost:8080",
    ],
)
def test_listed_origin_may_connect(origin: str | None) -> None:
    """Exact, or a subdomain; without the header it is no browser."""
    assert LISTED.allows(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "*",
        "http://example.com",
        "https://example.com:8443",
        "https://example.com/",
        "https://example.com.evil.net",
        "https://evilexample.com",
        "https://a.example.com",
        "https://example.org",
        "https://.example.org",
        "https://evilexample.org",
        "https://a.example.org.evil.net",
        "https://evil.net/.example.org",
        "https://evil.net#.example.org",
        "https://evil.net?.example.org",
        "https://evil.net:1.example.org",
        "https://u@.example.org",
        "https://a..example.org",
        "https://a.example.org:8443",
        "https://example.com, https://example.com",
        "http://localhost",
    ],
)
def test_other_origins_may_not_connect(origin: str) -> None:
    """Other schemes, ports, and names with a listed prefix or suffix."""
    assert not LISTED.allows(origin)


@pytest.mark.parametrize("origin", [None, "", "null", "https://anything.example"])
def test_star_allows_every_origin(origin: str | None) -> None:
    """Also the origin null."""
    assert Origins(["*"]).allows(origin)
    assert Origins(["https://example.com", "*"]).allows(origin)


def test_default_port_is_optional() -> None:
    """Browsers omit it."""
    assert Origins(["https://example.com:443"]).allows("https://example.com")
    assert Origins(["http://*.example.com:80"]).allows("http://a.example.com")
