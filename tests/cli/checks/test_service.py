"""URLs of services."""

from __future__ import annotations

import pytest

from odin_ws.cli.checks.service import InvalidUrl, ServiceAddress, parse_url


@pytest.mark.parametrize(
    ("text", "address", "host"),
    [
        ("ws://h:3002/ws", ServiceAddress("h", 3002, "/ws", tls=False), "h:3002"),
        ("ws://h", ServiceAddress("h", 80, "/ws", tls=False), "h"),
        ("wss://h/ws?v=1", ServiceAddress("h", 443, "/ws?v=1", tls=True), "h"),
        ("ws://[::1]:3002/a", ServiceAddress("::1", 3002, "/a", tls=False), "[::1]:3002"),
    ],
)
def test_a_url_is_an_address(text: str, address: ServiceAddress, host: str) -> None:
    """The scheme has a usual port, which requests leave out; the path is /ws by default."""
    assert parse_url(text) == address
    assert address.host_header == host


@pytest.mark.parametrize(
    "text",
    ["", "h:3002", "http://h/ws", "ws://", "ws://h:x/ws", "ws://h:0/", "ws://u:p@h/", "ws://["],
)
def test_any_other_text_is_rejected(text: str) -> None:
    """A password in a URL would be seen by other users."""
    with pytest.raises(InvalidUrl, match="must be ws://"):
        parse_url(text)
