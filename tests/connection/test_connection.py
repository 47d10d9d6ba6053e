"""A connection has ordered states, one reason to end, and one task at a time."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.auth.grants import full_grant
from odin_ws.catalogue import default_catalogue
from odin_ws.connection.connection import Connection, ConnectionState
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.protocol.message_reader import FrameReader
from odin_ws.protocol.wire_format import wire_format
from tests.connection.fakes import FakeTransport
from tests.hub.hub_driver import make_hub

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


class Silent:
    """A session of a client that says nothing."""

    def begin_time_slice(self) -> None:
        """Bytes have come."""

    async def receive(self, message: str | bytes) -> None:
        """Nothing comes."""
        raise AssertionError(message)

    def control(self) -> bool:
        """Pings may be answered."""
        return True


def new(transport: FakeTransport) -> Connection:
    """A connection that was admitted."""
    return Connection(
        transport,
        "peer",
        wire_format(),
        full_grant(default_catalogue()),
        send_queue_bytes=1000,
        grace=10,
        message_seconds=10,
        hub=make_hub(),
    )


async def run(connection: Connection) -> None:
    """Serve it until it ends."""
    await connection.run(ANSWER, Silent(), FrameReader(1000, 10), b"")


async def test_states_are_entered_in_order(autojump_clock: MockClock) -> None:
    """Each allows its own frames; the first close reason stays."""
    transport = FakeTransport()
    connection = new(transport)
    assert (connection.state, connection.closing) == (ConnectionState.HANDSHAKE, None)
    connection.ping()
    assert not transport.sent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, connection)
        await wait_all_tasks_blocked()
        assert (connection.state, connection.closing) == (ConnectionState.OPEN, None)
        assert transport.sent == ANSWER
        connection.close(DisconnectReason.SLOW)
        connection.close(DisconnectReason.REVOKED)
        assert (connection.state, connection.closing) == (
            ConnectionState.CLOSING,
            DisconnectReason.SLOW,
        )
        transport.put(b"")
    connection.abandon()
    assert (connection.state, connection.closing) == (ConnectionState.CLOSED, DisconnectReason.SLOW)
    connection.close(DisconnectReason.REVOKED)
    assert (connection.state, connection.closing) == (ConnectionState.CLOSED, DisconnectReason.SLOW)


async def test_connection_closed_within_its_handshake_is_sent_nothing() -> None:
    """No close frame may precede the handshake's answer."""
    transport = FakeTransport()
    connection = new(transport)
    connection.abandon()
    assert not transport.sent
    assert (connection.state, connection.closing) == (
        ConnectionState.CLOSED,
        DisconnectReason.DRAINING,
    )


async def test_second_task_of_a_connection_is_an_error(autojump_clock: MockClock) -> None:
    """The next replay may start when the previous one has ended."""
    transport = FakeTransport()
    connection = new(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, connection)
        await wait_all_tasks_blocked()
        ended = trio.Event()
        connection.start(ended.wait)
        assert connection.replaying
        with pytest.raises(AssertionError, match="one task"):
            connection.start(ended.wait)
        ended.set()
        await wait_all_tasks_blocked()
        assert not connection.replaying
        connection.start(trio.sleep_forever)
        connection.close(DisconnectReason.DRAINING)
        transport.put(b"")
    assert not connection.replaying
