"""Ports of our own, shared ones, and what becomes of callers when one is given up."""

from __future__ import annotations

import socket

import pytest
import trio

from odin_ws.address import Address
from odin_ws.listener.accept_loop import (
    CannotListen,
    accept_connections,
    bound_address,
    open_listening_socket,
    reserve_port,
)
from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.listener.transport import Transport
from odin_ws.testing.ports import LOOPBACK

ANY = Address(LOOPBACK, 0)


def accepted(listening: socket.socket) -> int:
    """How many callers wait at a socket; they are let in and closed."""
    count = 0
    while True:
        try:
            caller, _ = listening.accept()
        except BlockingIOError:
            return count
        caller.close()
        count += 1


@pytest.mark.parametrize("host", [LOOPBACK, "", "::1"])
def test_callers_are_spread_over_those_who_share_a_port(host: str) -> None:
    """The kernel gives about as many to each, and every caller to somebody."""
    with (
        reserve_port(Address(host, 0)) as address,
        open_listening_socket(address, reuse_port=True) as one,
        open_listening_socket(address, reuse_port=True) as other,
    ):
        assert address.port
        assert bound_address(one) == bound_address(other) == address
        callers = [socket.create_connection((host or LOOPBACK, address.port)) for _ in range(400)]
        counts = [accepted(listening) for listening in (one, other)]
        for caller in callers:
            caller.close()
        assert sum(counts) == 400
        # By chance fewer than 120 of 400 happens once in 10^15.
        assert min(counts) > 120


@pytest.mark.parametrize("host", [LOOPBACK, ""])
def test_accepted_socket_sends_small_writes_at_once(host: str) -> None:
    """The option is set once, at the listening socket, and inherited."""
    with (
        open_listening_socket(Address(host, 0)) as listening,
        socket.create_connection((LOOPBACK, bound_address(listening).port)),
        listening.accept()[0] as caller,
    ):
        assert caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_reserved_port_is_nobody_elses() -> None:
    """Neither one who wants it alone, nor one who would share it."""
    with reserve_port(ANY) as address:
        with pytest.raises(CannotListen, match="Address already in use"), reserve_port(address):
            pytest.fail("it is shared")
        with (
            open_listening_socket(address, reuse_port=True),
            pytest.raises(CannotListen, match="Address already in use"),
            open_listening_socket(address),
        ):
            pytest.fail("it is taken")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="IPv4 only")
def test_every_interface_is_reserved_in_both_families() -> None:
    """Nobody else gets the IPv4 half of an address that stands for both."""
    with (
        reserve_port(Address("", 0)) as address,
        pytest.raises(CannotListen, match="Address already in use"),
        reserve_port(Address("0.0.0.0", address.port)),  # noqa: S104 -- it is what must fail
    ):
        pytest.fail("it is shared")


def test_a_port_in_use_cannot_be_reserved() -> None:
    """The line says which, also while those who have it share it among them."""
    with open_listening_socket(ANY, reuse_port=True) as listening:
        address = bound_address(listening)
        with (
            pytest.raises(CannotListen, match=f"cannot listen at {address}: Address already"),
            reserve_port(address),
        ):
            pytest.fail("it is reserved")


def test_a_reserved_port_takes_no_callers() -> None:
    """Where nobody listens they are rejected, and do not wait for an answer."""
    with reserve_port(ANY) as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_who_was_let_in_is_served_though_the_port_closes() -> None:
    """The kernel has answered them: they get a connection, and not a reset."""
    served: list[str] = []

    async def serve(transport: Transport, peer: str) -> None:
        await trio.lowlevel.checkpoint()
        served.append(peer)
        transport.close()

    with open_listening_socket(ANY) as listening:
        address = bound_address(listening)
        async with trio.open_nursery() as connections:
            with trio.CancelScope() as accepting:
                accepting.cancel()
                with socket.create_connection(address), socket.create_connection(address):
                    await accept_connections(
                        listening, ReadScheduler(lambda: 0.0), serve, connections
                    )
        assert served == [LOOPBACK, LOOPBACK]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
