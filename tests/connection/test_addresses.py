"""Who a caller is behind proxies: what they have written is true from the right on."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.connection.addresses import TrustedProxies, limit_key, read_address

PROXIES = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
NEAR = "10.0.0.1"
FAR = "10.0.0.2"
CLIENT = "203.0.113.5"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:80", "::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("64:ff9b:1::192.0.2.1", "64:ff9b:1::c000:201"),
        ("", None),
        ("unknown", None),
        ("_hidden", None),
        ("192.0.2", None),
        ("192.0.2.256", None),
        ("0x7f.1", None),
        ("127.1", None),
        ("010.0.0.1", None),
        ("2130706433", None),
        ("localhost", None),
        ("[::1", "::1"),
        ("[]", None),
        ("１92.0.2.1", None),  # noqa: RUF001 -- a digit of another script
    ],
)
def test_an_address_is_read_in_one_way(text: str, address: str | None) -> None:
    """However it is written it is the same one; what is nearly one is none."""
    assert read_address(text) == address


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("memory", "memory"),
    ],
)
def test_limits_count_what_one_owner_has(address: str, key: str) -> None:
    """An address of IPv4, a /64 of IPv6."""
    assert limit_key(address) == key


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (CLIENT, CLIENT),
        (f"{CLIENT}, {FAR}", CLIENT),
        (f"192.0.2.9, {CLIENT}", CLIENT),
        (f"{FAR}, {CLIENT}", CLIENT),
        (f"192.0.2.9, {CLIENT}, 2001:db8::7,{FAR}", CLIENT),
        (f"  {CLIENT}:5000 ", CLIENT),
        ("[2606::1]:99", "2606::1"),
        (f"10.0.0.3, {FAR}", "10.0.0.3"),
        ("", NEAR),
        ("unknown", NEAR),
        (f"{CLIENT}, unknown", NEAR),
        (f"{CLIENT}, unknown, {FAR}", FAR),
        (f"{CLIENT},,{FAR}", FAR),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_first_address_that_is_no_proxys_is_the_clients(chain: str, client: str) -> None:
    """From the right on; what cannot be read ends the search at the last proxy that is known."""
    assert PROXIES.client(NEAR, {"x-forwarded-for": chain}) == client
    # Nobody but a trusted proxy is asked.
    assert PROXIES.client("192.0.2.44", {"x-forwarded-for": chain}) == "192.0.2.44"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"For={CLIENT};proto=https;by={NEAR}", CLIENT),
        (f"proto=https; for={CLIENT}", CLIENT),
        (f'for="{CLIENT}:5000"', CLIENT),
        ('for="[2606::1]:99"', "2606::1"),
        ('for="[2606:\\:1]"', "2606::1"),
        (f"for=192.0.2.9, for={CLIENT};by={FAR}, for={FAR}", CLIENT),
        (f'for="a, for=192.0.2.9", for={CLIENT}', CLIENT),
        (f'for={CLIENT}, for="x;y,z"', NEAR),
        (f"for={CLIENT}, for=unknown", NEAR),
        (f"for={CLIENT}, for=_secret", NEAR),
        (f"for={CLIENT}, by={FAR}", NEAR),
        (f"for={CLIENT}, for", NEAR),
        (f'for={CLIENT}, for="{FAR}', NEAR),
        ("", NEAR),
        (";", NEAR),
        ("for=", NEAR),
    ],
)
def test_the_standard_header_is_read_too(header: str, client: str) -> None:
    """RFC 7239, with its quotes; what is broken hides who asked."""
    assert PROXIES.client(NEAR, {"forwarded": header}) == client


def test_two_headers_that_disagree_do_not_count() -> None:
    """A proxy that writes one passes on what the client wrote into the other."""
    both = {"x-forwarded-for": CLIENT, "forwarded": f"for={CLIENT}"}
    assert PROXIES.client(NEAR, both) == CLIENT
    assert PROXIES.client(NEAR, both | {"forwarded": "for=127.0.0.1"}) == NEAR
    assert PROXIES.client(NEAR, both | {"x-forwarded-for": "127.0.0.1"}) == NEAR


@given(
    st.sampled_from(["x-forwarded-for", "forwarded"]),
    st.text(st.characters(max_codepoint=126)) | st.text('for=1.2:"\\;, []'),
)
def test_whatever_a_header_says_a_client_has_an_address(name: str, text: str) -> None:
    """Never an error, and never a text that is none."""
    ip_address(PROXIES.client(NEAR, {name: text}))


@given(st.text(st.characters(max_codepoint=126)), st.ip_addresses())
def test_what_stands_left_of_the_client_changes_nothing(invented: str, client: object) -> None:
    """A client can write whatever it likes into the header that it sends to its proxy."""
    if str(client) in PROXIES:
        return
    chain = f"{invented}, {client}"
    assert PROXIES.client(NEAR, {"x-forwarded-for": chain}) == read_address(str(client))
