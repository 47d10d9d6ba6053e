"""The wire format of a connection: envelope, frames, compression."""

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
    """The content of one frame: a message, or a batch of messages."""

    SINGLE = "single"
    BATCH = "batch"


class EventIds(Protocol):
    """Creates the ids of events, from which a client can resume."""

    def of(
        self, messages: Sequence[ChannelMessage], ends: Sequence[int], *, replay: bool
    ) -> list[bytes]:
        """Return the ids of events with messages that are written now to all their subscribers.

        `ends`: for each event how many of the messages there are up to its end, ascending. A client
        resumes after the last message of an event with its id.
        """
        ...


@attrs.frozen(eq=False)
class WireFormat:
    """A wire format; all connections with the same format share one object."""

    dialect: Dialect
    frames: Frames
    window_bits: int
    """The window of compression; NO_WINDOW without permessage-deflate."""
    event_ids: EventIds | None = None
    """For an event stream; None for a WebSocket."""

    def with_frames(self, frames: Frames) -> WireFormat:
        """Return the format with other frames."""
        return wire_format(self.dialect, frames, self.window_bits)

    def with_window(self, window_bits: int) -> WireFormat:
        """Return the format with compression."""
        return wire_format(self.dialect, self.frames, window_bits)


def wire_format(
    dialect: Dialect = Dialect.V1,
    frames: Frames = Frames.SINGLE,
    window_bits: int = NO_WINDOW,
) -> WireFormat:
    """Return the one object for a combination."""
    return _shared(dialect, frames, window_bits)


_shared = cache(WireFormat)
