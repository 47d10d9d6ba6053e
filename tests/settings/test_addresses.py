"""Settings that are addresses: brokers, listening addresses, networks, hosts."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from odin_ws.address import Address
from odin_ws.settings import load_settings
from tests.settings.problems import problem_of, problems_of


def value_of(name: str, text: str) -> Any:
    """Return the value of a setting whose variable is `text`."""
    settings, unknown = load_settings({name: text})
    assert unknown == []
    return getattr(settings, name.lower())


@pytest.mark.parametrize(
    ("text", "brokers"),
    [
        ("kafka:9092", ("kafka:9092",)),
        ("a:1,b:65535", ("a:1", "b:65535")),
        (" a:9092 , b:9092, ", ("a:9092", "b:9092")),
        ("[::1]:9092", ("[::1]:9092",)),
    ],
)
def test_brokers_are_a_list(text: str, brokers: tuple[str, ...]) -> None:
    """Several brokers are separated by commas."""
    assert value_of("KAFKA_BROKERS", text) == brokers


@pytest.mark.parametrize(
    "text",
    [
        "kafka",
        "kafka:",
        ":9092",
        "a:9092,b",
        "a:0",
        "a:65536",
        "a:x",
        ",",
        "a:9092;b:9092",
        "a:9092 b:9092",
        "PLAINTEXT://a:9092",
        "::1:9092",
    ],
)
def test_broker_without_host_or_port_stops_the_start(text: str) -> None:
    """The Kafka client would find out much later."""
    assert problem_of(KAFKA_BROKERS=text).startswith(f"KAFKA_BROKERS={text}: must be host:port")


@pytest.mark.parametrize("name", ["WS_ADDR", "WS_OPS_ADDR"])
@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":3002", Address("", 3002)),
        (":0", Address("", 0)),
        ("127.0.0.1:65535", Address("127.0.0.1", 65535)),
        ("localhost:80", Address("localhost", 80)),
        ("[::1]:3002", Address("::1", 3002)),
        ("[::]:3002", Address("::", 3002)),
    ],
)
def test_address_prints_as_it_was_set(name: str, text: str, address: Address) -> None:
    """An address in the log can be set again."""
    assert value_of(name, text) == address
    assert str(address) == text


@pytest.mark.parametrize("name", ["WS_ADDR", "WS_OPS_ADDR"])
@pytest.mark.parametrize(
    "text",
    [
        "3002",
        "localhost",
        ":",
        ":-1",
        ":65536",
        ":http",
        "host:3002/",
        "::1:3002",
        "http://host:3002",
        "a:3002,b:3002",
    ],
)
def test_invalid_address_stops_the_start(name: str, text: str) -> None:
    """The line has the format of an address."""
    assert problem_of(**{name: text}) == (
        f"{name}={text}: must be host:port, or :port for every interface"
    )


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("192.0.2.7", ["192.0.2.7/32"]),
        (" 10.0.0.0/8 , 2001:db8::/32,", ["10.0.0.0/8", "2001:db8::/32"]),
        ("::1", ["::1/128"]),
    ],
)
def test_trusted_proxies_are_networks(text: str, networks: list[str]) -> None:
    """A single address is a network of one."""
    assert value_of("WS_TRUSTED_PROXIES", text) == tuple(map(ip_network, networks))


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0-10.0.0.9", "*"])
def test_invalid_network_stops_the_start(text: str) -> None:
    """A network with host bits would trust more than intended."""
    assert problem_of(WS_TRUSTED_PROXIES=text).startswith(
        f"WS_TRUSTED_PROXIES={text}: must be networks such as 10.0.0.0/8"
    )


def test_proxy_protocol_without_trusted_proxies_stops_the_start() -> None:
    """Nobody could connect."""
    (problem,) = problems_of(WS_PROXY_PROTOCOL="required")
    assert "needs WS_TRUSTED_PROXIES" in problem
    load_settings({"WS_PROXY_PROTOCOL": "required", "WS_TRUSTED_PROXIES": "10.0.0.0/8"})


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("odin-ws", ("odin-ws",)),
        (
            "Odin.Prod.svc, 10.0.0.7,[2001:db8::1],::1",
            ("odin.prod.svc", "10.0.0.7", "[2001:db8::1]", "::1"),
        ),
        ("*", ("*",)),
    ],
)
def test_ops_hosts_are_names_and_addresses(text: str, hosts: tuple[str, ...]) -> None:
    """They are stored in lower case, for comparison."""
    assert value_of("WS_OPS_HOSTS", text) == hosts


@pytest.mark.parametrize("text", ["odin-ws:3003", "http://odin-ws", "*.example.com", "a b", "[x]"])
def test_ops_host_with_port_or_scheme_stops_the_start(text: str) -> None:
    """It could match no Host header."""
    assert problem_of(WS_OPS_HOSTS=text).startswith(f"WS_OPS_HOSTS={text}: must be names")
