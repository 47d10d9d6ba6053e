"""The client's address behind proxies: headers of trusted proxies count, from the right."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.address import read_address
from odin_ws.handshake.forwarded import ClientAddress, TrustedProxies, limit_key

PROXIES = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])
NEAR = "10.0.0.1"
FAR = "10.0.0.2"
CLIENT = "203.0.113.5"
STANDARD = TrustedProxies([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")], "Forwarded")


def unnamed(proxy: str) -> ClientAddress:
    """A proxy that has not named its client."""
    return ClientAddress(proxy, named=False)


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
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
        ("2002:C000:0201::1", "2002:c000:201::1"),
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
def test_notations_of_an_address_parse_to_the_same_address(text: str, address: str | None) -> None:
    """An almost valid text is no address."""
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
        ("64:ff9b:1::192.0.2.1", "64:ff9b:1::/64"),
        ("2002:c000:201::1", "192.0.2.1"),
        ("2002:c000:201:ffff::1", "192.0.2.1"),
        ("2001:0:102:304::3fff:fdfe", "192.0.2.1"),
        ("memory", "memory"),
    ],
)
def test_address_limits_count_by_owner(address: str, key: str) -> None:
    """An IPv4 address, also inside an IPv6 one (NAT64, 6to4, Teredo); an IPv6 /64."""
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
        (f"10.0.0.3, {FAR}", unnamed("10.0.0.3")),
        ("", unnamed(NEAR)),
        ("unknown", unnamed(NEAR)),
        (f"{CLIENT}, unknown", unnamed(NEAR)),
        (f"{CLIENT}, unknown, {FAR}", unnamed(FAR)),
        (f"{CLIENT},,{FAR}", unnamed(FAR)),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_client_is_the_rightmost_address_outside_the_proxies(
    chain: str, client: str | ClientAddress
) -> None:
    """An invalid entry ends the search at the last known proxy."""
    expected = ClientAddress(client) if isinstance(client, str) else client
    assert PROXIES.client(NEAR, {"x-forwarded-for": chain}) == expected
    # Nobody but a trusted proxy is asked.
    stranger = ClientAddress("192.0.2.44")
    assert PROXIES.client(stranger.address, {"x-forwarded-for": chain}) == stranger


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
        (f'for={CLIENT}, for="x;y,z"', unnamed(NEAR)),
        (f"for={CLIENT}, for=unknown", unnamed(NEAR)),
        (f"for={CLIENT}, for=_secret", unnamed(NEAR)),
        (f"for={CLIENT}, by={FAR}", unnamed(NEAR)),
        (f"for={CLIENT}, for", unnamed(NEAR)),
        (f'for={CLIENT}, for="{FAR}', unnamed(NEAR)),
        ("", unnamed(NEAR)),
        (";", unnamed(NEAR)),
        ("for=", unnamed(NEAR)),
    ],
)
def test_forwarded_header_is_parsed(header: str, client: str | ClientAddress) -> None:
    """RFC 7239, with its quotes; an invalid one hides the client."""
    expected = ClientAddress(client) if isinstance(client, str) else client
    assert STANDARD.client(NEAR, {"forwarded": header}) == expected


@pytest.mark.parametrize(
    "invented", [f"for={FAR}", "for=9.9.9.9", "for=127.0.0.1", "for=unknown", "", "\x00", ";,;"]
)
def test_header_that_the_proxy_does_not_write_is_ignored(invented: str) -> None:
    """A proxy that writes one header passes the client's other one on."""
    both = {"x-forwarded-for": CLIENT, "forwarded": invented}
    assert PROXIES.client(NEAR, both) == ClientAddress(CLIENT)
    assert PROXIES.client(NEAR, {"forwarded": invented}) == unnamed(NEAR)
    both = {"x-forwarded-for": invented.removeprefix("for="), "forwarded": f"for={CLIENT}"}
    assert STANDARD.client(NEAR, both) == ClientAddress(CLIENT)
    del both["forwarded"]
    assert STANDARD.client(NEAR, both) == unnamed(NEAR)


@pytest.mark.parametrize("address", ["64:ff9b::a00:2", "2002:a00:2::1", "2001:0:1:1::f5ff:fffd"])
def test_ipv6_address_that_embeds_a_proxys_is_not_trusted(address: str) -> None:
    """Else its owner could forge client addresses."""
    assert address not in PROXIES
    chain = {"x-forwarded-for": f"192.0.2.9, {address}"}
    assert PROXIES.client(NEAR, chain) == ClientAddress(address)
    assert "::ffff:10.0.0.2" in PROXIES


@given(
    st.sampled_from(["x-forwarded-for", "forwarded"]),
    st.text(st.characters(max_codepoint=126)) | st.text('for=1.2:"\\;, []'),
)
def test_any_header_results_in_a_client_address(name: str, text: str) -> None:
    """Never an exception, and never an invalid address."""
    for proxies in (PROXIES, STANDARD):
        ip_address(proxies.client(NEAR, {name: text}).address)


@given(st.text(st.characters(max_codepoint=126)), st.ip_addresses())
def test_entries_left_of_the_client_are_ignored(invented: str, client: object) -> None:
    """A client can send any header to its proxy."""
    if str(client) in PROXIES:
        return
    chain = f"{invented}, {client}"
    expected = read_address(str(client))
    assert PROXIES.client(NEAR, {"x-forwarded-for": chain}) == ClientAddress(expected or "")
