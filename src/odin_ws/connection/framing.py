"""How a connection writes what is no message: notices, signs of life, its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.protocol.frames import PING, text_frame

__all__ = ["WEBSOCKET", "Framing"]


class Framing(Protocol):
    """What differs between a WebSocket and a stream of Server-Sent Events."""

    @property
    def ping(self) -> bytes:
        """What is sent now and then, so that both ends see that the other one is there."""
        ...

    @property
    def end_of_input(self) -> DisconnectReason:
        """What it means that the client sends no more bytes."""
        ...

    def notice(self, payload: bytes) -> bytes:
        """The bytes of a notice or an answer, which is the next thing that is sent."""
        ...

    def close(self, reason: DisconnectReason) -> bytes:
        """The last bytes."""
        ...

    def is_received(self, sent: int, unacknowledged: Callable[[], int]) -> bool:
        """Whether the client has received something since the last call, which is a sign of life.

        `sent`: bytes that the kernel has taken so far. `unacknowledged`: returns how many of them
        are still on their way. Always false where the client answers pings.
        """
        ...


class _WebSocket:
    """RFC 6455: a client answers pings, and says when it leaves."""

    ping: Final = PING
    end_of_input: Final = DisconnectReason.LOST

    def notice(self, payload: bytes) -> bytes:
        return text_frame(payload)

    def close(self, reason: DisconnectReason) -> bytes:
        return reason.value.frame

    def is_received(self, _sent: int, _unacknowledged: Callable[[], int]) -> bool:
        return False


WEBSOCKET: Final = _WebSocket()
