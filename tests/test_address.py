"""Addresses are parsed with the results of ipaddress, in less time."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.address import parse_ip, read_address, read_socket_address

NEARLY = [
    "",
    "1.2.3",
    "1.2.3.4.5",
    "01.2.3.4",
    "1.2.3.256",
    "1.2.3.-4",
    " 1.2.3.4",
    "1.2.3.4 ",
    "1.2.3.4/8",
    "0x1.2.3.4",
    "1.2.3.\u0664",
    "1.2.3.4\0",
    "\ud800",
]


@pytest.mark.parametrize("text", NEARLY)
def test_invalid_address_is_none(text: str) -> None:
    """Also texts that other parsers accept."""
    assert parse_ip(text) is None


@given(st.ip_addresses(v=4).map(str) | st.text("0123456789. x", max_size=16))
def test_ipv4_address_agrees_with_ipaddress(text: str) -> None:
    """The pattern is as strict."""
    try:
        expected = ip_address(text)
    except ValueError:
        assert parse_ip(text) is None
    else:
        assert parse_ip(text) == expected


@given(st.ip_addresses(v=6) | st.ip_addresses(v=4))
def test_socket_address_is_formatted_as_by_the_kernel(address: IPv4Address | IPv6Address) -> None:
    """As the kernel writes it, for sockets of IPv4 and of IPv6."""
    if isinstance(address, IPv4Address):
        assert read_socket_address(str(address)) == str(address)
        address = IPv6Address(f"::ffff:{address}")
    text = socket.inet_ntop(socket.AF_INET6, address.packed)
    assert read_socket_address(text) == read_address(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::7", "2001:db8::7"),
        ("::192.0.2.1", "::c000:201"),
        ("::", "::"),
    ],
)
def test_ipv4_address_of_an_ipv6_socket_is_ipv4(text: str, read: str) -> None:
    """An address of IPv4 is read as one, also from a socket of IPv6."""
    assert read_socket_address(text) == read
