"""Listening ports, shared and reserved ones, and connections when a port closes."""

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
def test_connections_are_spread_over_sockets_of_a_shared_port(host: str) -> None:
    """The kernel gives each about as many, and every connection to one of them."""
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
def test_accepted_socket_has_nodelay(host: str) -> None:
    """The option is set at the listening socket and inherited."""
    with (
        open_listening_socket(Address(host, 0)) as listening,
        socket.create_connection((LOOPBACK, bound_address(listening).port)),
        listening.accept()[0] as caller,
    ):
        assert caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_reserved_port_cannot_be_bound_by_others() -> None:
    """Neither alone nor shared."""
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
    """Other processes cannot get the IPv4 half of the address."""
    with (
        reserve_port(Address("", 0)) as address,
        pytest.raises(CannotListen, match="Address already in use"),
        reserve_port(Address("0.0.0.0", address.port)),  # noqa: S104 -- it is what must fail
    ):
        pytest.fail("it is shared")


def test_port_in_use_cannot_be_reserved() -> None:
    """The error names it, also while other processes share it."""
    with open_listening_socket(ANY, reuse_port=True) as listening:
        address = bound_address(listening)
        with (
            pytest.raises(CannotListen, match=f"cannot listen at {address}: Address already"),
            reserve_port(address),
        ):
            pytest.fail("it is reserved")


def test_reserved_port_rejects_connections() -> None:
    """Without a listener they are rejected at once."""
    with reserve_port(ANY) as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


async def test_queued_connections_are_served_when_the_port_closes() -> None:
    """The kernel has accepted them: they are not reset."""
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
