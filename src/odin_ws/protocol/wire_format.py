"""How one connection's messages are written: envelope, frames, compression."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import Protocol

import attrs

from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.permessage_deflate import NO_WINDOW

__all__ = ["EventIds", "Frames", "WireFormat", "wire_format"]


class Frames(StrEnum):
    """What a connection is sent as one frame."""

    SINGLE = "single"
    BATCH = "batch"


class EventIds(Protocol):
    """Finds the ids of events."""

    def of(self, messages: Sequence[ChannelMessage], *, replay: bool) -> list[bytes]:
        """The id of each of some messages, which are written now, to all that are due to them.

        Whoever has got a message resumes behind it with its id.
        """
        ...


@attrs.frozen(eq=False)
class WireFormat:
    """The same object for all connections whose messages are written in the same way."""

    dialect: Dialect
    frames: Frames
    window_bits: int
    """What compressed messages may refer back to; NO_WINDOW without permessage-deflate."""
    event_ids: EventIds | None = None
    """Of a stream of Server-Sent Events; None for a WebSocket."""

    def with_frames(self, frames: Frames) -> WireFormat:
        """The format of a connection that has asked for other frames."""
        return wire_format(self.dialect, frames, self.window_bits)

    def with_window(self, window_bits: int) -> WireFormat:
        """The format of a connection that has agreed on compression."""
        return wire_format(self.dialect, self.frames, window_bits)


def wire_format(
    dialect: Dialect = Dialect.V1,
    frames: Frames = Frames.SINGLE,
    window_bits: int = NO_WINDOW,
) -> WireFormat:
    """The one object for a combination."""
    return _shared(dialect, frames, window_bits)


_shared = cache(WireFormat)
