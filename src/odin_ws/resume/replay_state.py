"""The state of a replay, and its interfaces to the client and to the session."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Protocol

from odin_ws.hub import Subscriber
from odin_ws.protocol.responses import Lost, Replayed
from odin_ws.records import TopicPartition

__all__ = ["ReplayClient", "ReplayObserver", "ReplayState", "ReplayUnavailable"]


class ReplayState(IntEnum):
    """The states of a replay, in order."""

    STARTING = 0
    """It finds its start and counts; the client has no answer yet."""
    SENDING = 1
    """The client has its answer, and receives messages."""
    LIVE = 2
    """The client has all messages, and its patterns are in the subscription index."""


class ReplayClient(Protocol):
    """The part of a connection that a replay uses."""

    subscriber: Subscriber

    async def drained(self) -> None:
        """Wait until the send queue is empty."""
        ...


class ReplayObserver(Protocol):
    """The part of a session that responds to the client."""

    def begun(self, replayed: Replayed, start: Mapping[TopicPartition, int]) -> None:
        """Called once, before the first message; the replay begins after the offsets of `start`."""
        ...

    def lost(self, count: int, lost: Lost) -> None:
        """Called after `count` replayed messages if more records are lost than `begun` reported."""
        ...

    def ended(self, count: int) -> None:
        """Called after the last of `count` replayed messages."""
        ...


class ReplayUnavailable(Exception):
    """A replay cannot begin, because the log does not respond. Nothing has changed."""
