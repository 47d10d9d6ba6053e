"""Writes the frames of a connection that are no messages: notices, pings, close."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.protocol.frames import PING, text_frame

__all__ = ["WEBSOCKET", "Framing"]


class Framing(Protocol):
    """The framing of a connection: of a WebSocket, or of a stream of Server-Sent Events."""

    @property
    def ping(self) -> bytes:
        """The bytes of a ping, which shows each peer that the other is alive."""
        ...

    @property
    def end_of_input(self) -> DisconnectReason:
        """Return the disconnect reason if the client ends its stream."""
        ...

    def notice(self, payload: bytes) -> bytes:
        """Return the bytes of a notice or a response, which is sent next."""
        ...

    def close(self, reason: DisconnectReason) -> bytes:
        """The last bytes."""
        ...

    def is_received(self, sent: int, unacknowledged: Callable[[], int]) -> bool:
        """Return whether the client has received bytes since the last call, so it is alive.

        `sent`: bytes that the kernel has taken so far. `unacknowledged`: returns how many of these
        bytes are not acknowledged yet. Always False if the client responds to pings.
        """
        ...


class _WebSocket:
    """RFC 6455: clients respond to pings and send a close frame."""

    ping: Final = PING
    end_of_input: Final = DisconnectReason.LOST
    notice = staticmethod(text_frame)

    def close(self, reason: DisconnectReason) -> bytes:
        return reason.value.frame

    def is_received(self, _sent: int, _unacknowledged: Callable[[], int]) -> bool:
        return False


WEBSOCKET: Final = _WebSocket()
