"""An echo server with our handshake, reader, send queue and closes, and without a hub.

Autobahn's test suite needs a server that echoes whole messages, text and binary; odin-ws itself
only accepts commands. Everything else is the code that `odin-ws serve` runs.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from odin_ws.address import Address
from odin_ws.auth.grants import Grant
from odin_ws.connection.connection import Connection
from odin_ws.handshake.forwarded import TrustedProxies
from odin_ws.handshake.handshake import HandshakeLimits, Handshaker
from odin_ws.handshake.rate_limiter import RateLimiter, RateLimits
from odin_ws.handshake.request import HTTPRejection, check_upgrade, upgrade_response
from odin_ws.listener.accept_loop import (
    accept_connections,
    bound_address,
    open_listening_socket,
)
from odin_ws.listener.read_scheduler import ReadScheduler, running_read_scheduler
from odin_ws.listener.transport import Transport
from odin_ws.protocol.deflate import Compressor
from odin_ws.protocol.frames import text_frame, text_header
from odin_ws.protocol.message_reader import FrameReader
from odin_ws.protocol.permessage_deflate import negotiate
from odin_ws.protocol.wire_format import wire_format
from tests.hub.hub_driver import make_hub

__all__ = ["echoing"]

# The suite's largest message has 16 MiB, in at most 65,536 frames.
_MESSAGE_BYTES: Final = 16 << 20
_MESSAGE_FRAMES: Final = 1 << 16

# Send queue for 1,000 messages, which the suite writes before it reads the first.
_SEND_QUEUE_BYTES: Final = 1 << 30

# The suite sends messages slowly, in small parts.
_PATIENCE: Final = 100.0

# Bits of a frame's first byte (RFC 6455, 5.2).
_TEXT: Final = 1
_BINARY: Final = 2


class _Echo:
    """The session of a connection: it echoes messages."""

    def __init__(self, connection: Connection, compressor: Compressor | None) -> None:
        self._connection = connection
        self._compressor = compressor

    def begin_time_slice(self) -> None:
        """Ignore it: an echo is short."""

    async def receive(self, message: str | bytes) -> None:
        """Echo a message, compressed if the connection has agreed on it."""
        payload = message.encode() if isinstance(message, str) else message
        if payload and self._compressor is not None:
            payload = self._compressor.compress(payload)
            frame = text_header(len(payload), compressed=True) + payload
        else:
            frame = text_frame(payload)
        if isinstance(message, bytes):
            # The server itself sends no binary frames.
            frame = bytes((frame[0] ^ _TEXT ^ _BINARY,)) + frame[1:]
        self._connection.send_queue.write(frame)

    def control(self) -> bool:
        """Answer every ping."""
        return True


async def _serve(handshaker: Handshaker, wire: Transport, peer: str) -> None:
    async with handshaker.accept(wire, peer) as caller:
        with contextlib.closing(wire), contextlib.suppress(trio.BrokenResourceError):
            head = await handshaker.read_request(caller)
            if head is None:
                return
            try:
                check_upgrade(head)
            except HTTPRejection as rejection:
                await handshaker.reject(caller, rejection)
                return
            connection = Connection(
                caller.transport,
                peer,
                wire_format(),
                Grant({}),
                send_queue_bytes=_SEND_QUEUE_BYTES,
                grace=_PATIENCE,
                message_seconds=_PATIENCE,
                hub=make_hub(),
            )
            agreed = negotiate(head.headers.get("sec-websocket-extensions", ""))
            reader = FrameReader(_MESSAGE_BYTES, _MESSAGE_FRAMES, deflate=agreed is not None)
            echo = _Echo(connection, Compressor(agreed.window_bits) if agreed else None)
            response = upgrade_response(head, extensions=agreed.response if agreed else None)
            await connection.run(response, echo, reader, head.rest)


@asynccontextmanager
async def echoing(host: str) -> AsyncIterator[Address]:
    """Listen on a free port of `host` for the length of the block."""
    limits = HandshakeLimits(
        max_pending=100,
        max_header_bytes=1 << 14,
        timeout_seconds=_PATIENCE,
        trusted_proxies=TrustedProxies(()),
        proxy_protocol=False,
    )
    handshaker = Handshaker(limits, RateLimiter(RateLimits()), None)
    with open_listening_socket(Address(host, 0)) as listening:
        read_scheduler = ReadScheduler(lambda: 0.0)
        async with running_read_scheduler(read_scheduler), trio.open_nursery() as nursery:
            serve = partial(_serve, handshaker)
            nursery.start_soon(accept_connections, listening, read_scheduler, serve, nursery)
            yield bound_address(listening)
            nursery.cancel_scope.cancel()
