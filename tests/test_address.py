"""An IP address is read as ipaddress reads it, in less time."""

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
def test_text_that_is_no_address_is_none(text: str) -> None:
    """Also what other readers take for one."""
    assert parse_ip(text) is None


@given(st.ip_addresses(v=4).map(str) | st.text("0123456789. x", max_size=16))
def test_address_of_ipv4_is_what_ipaddress_makes_of_it(text: str) -> None:
    """A pattern is as strict."""
    try:
        expected = ip_address(text)
    except ValueError:
        assert parse_ip(text) is None
    else:
        assert parse_ip(text) == expected


@given(st.ip_addresses(v=6) | st.ip_addresses(v=4))
def test_address_of_a_socket_is_written_as_everywhere(address: IPv4Address | IPv6Address) -> None:
    """As the kernel writes it, whether the socket is one of IPv4 or of IPv6."""
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
def test_address_of_a_socket(text: str, read: str) -> None:
    """An address of IPv4 is one, however it arrives."""
    assert read_socket_address(text) == read
