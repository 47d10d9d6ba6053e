"""A token is read from each allowed place, and is never selected as the subprotocol."""

from __future__ import annotations

import pytest

from odin_ws.handshake.credentials import bearer_token, select_subprotocol
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection


def request(query: str = "", **headers: str) -> HandshakeRequest:
    """A head with these headers, `_` for `-`."""
    pairs = (word.partition("=") for word in query.split("&") if word)
    return HandshakeRequest(
        "GET",
        "/ws",
        {name: value for name, _, value in pairs},
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer a.b.c", "a.b.c"),
        ("bearer a.b.c", "a.b.c"),
        ("BEARER  a.b.c ", "a.b.c"),
        ("Bearer ", ""),
        ("Bearer", None),
        ("Basic dTpw", None),
        ("a.b.c", None),
        ("", None),
        ("Bearer a, Bearer b", "a, Bearer b"),
    ],
)
def test_token_of_the_authorization_header(authorization: str, token: str | None) -> None:
    """The scheme is case-insensitive (RFC 9110, 11.1); another scheme has no token."""
    assert bearer_token(request(authorization=authorization), in_query=False) == token


def test_token_of_a_subprotocol() -> None:
    """At any position of the list, with or without spaces."""
    for offered in ("odin.v1, bearer.a.b.c", "bearer.a.b.c,odin.v1", "x ,  bearer.a.b.c , odin.v1"):
        one = request(sec_websocket_protocol=offered)
        assert bearer_token(one, in_query=False) == "a.b.c"
        assert select_subprotocol(one) == "odin.v1"


def test_token_of_the_query_requires_the_setting() -> None:
    """Without the setting the parameter is ignored."""
    one = request("token=a.b.c&v=1")
    assert bearer_token(one, in_query=True) == "a.b.c"
    assert bearer_token(one, in_query=False) is None


def test_two_tokens_are_rejected() -> None:
    """RFC 6750, 2: the permissions would be ambiguous."""
    twice = [
        request(authorization="Bearer a", sec_websocket_protocol="odin.v1, bearer.a"),
        request(sec_websocket_protocol="bearer.a, bearer.b"),
        request("token=a", authorization="Bearer a"),
    ]
    for one in twice:
        with pytest.raises(HTTPRejection) as caught:
            bearer_token(one, in_query=True)
        assert (caught.value.status, caught.value.text) == (400, "more than one token")


@pytest.mark.parametrize(
    ("query", "offered", "selected"),
    [
        ("", "odin.v1", "odin.v1"),
        ("", "other, odin.v1", "odin.v1"),
        ("v=1", "odin.v0, odin.v1", "odin.v1"),
        ("v=0", "odin.v0, odin.v1", "odin.v0"),
        ("v=0", "odin.v1", None),
        ("", "odin.v0", None),
        ("", "other", None),
        ("", "ODIN.V1", None),
        ("", "", None),
    ],
)
def test_offered_subprotocol_of_the_version_is_selected(
    query: str, offered: str, selected: str | None
) -> None:
    """The comparison is case-sensitive (RFC 6455, 11.3.4)."""
    assert select_subprotocol(request(query, sec_websocket_protocol=offered)) == selected


def test_no_subprotocol_is_selected_without_an_offer() -> None:
    """A client must close if it did not offer the selected one (RFC 6455, 4.1)."""
    assert select_subprotocol(request()) is None


def test_token_as_the_only_subprotocol_is_rejected() -> None:
    """A browser would fail without a reason; the body names the missing offer."""
    with pytest.raises(HTTPRejection) as caught:
        select_subprotocol(request(sec_websocket_protocol="bearer.a.b.c"))
    assert caught.value.status == 400
    assert "odin.v1" in caught.value.text
    assert "a.b.c" not in caught.value.text
