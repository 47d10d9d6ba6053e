"""The interfaces through which a connection handles what its client sends.

A WebSocket has a session and a frame parser, an event stream has others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from odin_ws.protocol.message_reader import Incoming

__all__ = ["CommandHandler", "Reader"]


class CommandHandler(Protocol):
    """Handles the client's messages, such as a session."""

    def begin_time_slice(self) -> None:
        """Begin a time slice: bytes have arrived, in a read turn of the client."""
        ...

    async def receive(self, message: str | bytes) -> None:
        """Handle a whole message. May wait for turns of the client, and for nothing else."""
        ...

    def control(self) -> bool:
        """Count a ping or pong; returns whether it may be answered."""
        ...


class Reader(Protocol):
    """Parses the bytes that a client sends."""

    def receive(self, data: bytes) -> Iterable[Incoming]:
        """Add bytes; returns the complete items."""
        ...

    @property
    def has_items(self) -> bool:
        """True if there are items without further bytes."""
        ...

    @property
    def unfinished(self) -> bool:
        """True if an item is incomplete."""
        ...
