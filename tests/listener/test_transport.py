"""The transport of a real socket: what the peer has confirmed."""

from __future__ import annotations

import socket

import trio

from odin_ws.listener.read_scheduler import ReadScheduler
from odin_ws.listener.transport import SocketTransport
from odin_ws.testing.ports import LOOPBACK


async def test_bytes_that_the_peer_has_not_confirmed_are_counted() -> None:
    """None at first; some while the peer's buffers are full; none when it has read everything."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    with peer, ours:
        transport = SocketTransport(ours, ReadScheduler(lambda: 0.0))
        assert transport.unacknowledged() == 0
        sent = 0
        while taken := transport.send_nowait(b"x" * 65536):
            sent += taken
        assert 0 < transport.unacknowledged() <= sent
        with trio.fail_after(10):
            while sent:
                sent -= len(await trio.to_thread.run_sync(peer.recv, 1 << 20))
            while transport.unacknowledged():  # noqa: ASYNC110 -- the kernel gives no sign
                await trio.sleep(0.001)


async def test_closed_socket_has_nothing_unconfirmed() -> None:
    """A keepalive may come to a connection that is just over."""
    ours, peer = socket.socketpair()
    transport = SocketTransport(ours, ReadScheduler(lambda: 0.0))
    transport.close()
    peer.close()
    assert transport.unacknowledged() == 0
