"""The state of a replay, and its interfaces to the client and to the session."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol

from odin_ws.hub import Subscriber
from odin_ws.resume.replay_window import WindowClient

__all__ = ["ReplayClient", "ReplayState", "ReplayUnavailable"]


class ReplayState(IntEnum):
    """The states of a replay, in order."""

    STARTING = 0
    """The replay finds its start and counts its messages; the client has no response yet."""
    SENDING = 1
    """The client has its response, and receives messages."""
    LIVE = 2
    """The client has all messages, and its patterns are in the subscription index."""


class ReplayClient(WindowClient, Protocol):
    """The part of a connection that a replay uses.

    A protocol because replays are below connections, which know them by their session.
    """

    subscriber: Subscriber

    async def drained(self) -> None:
        """Wait until the send queue is empty."""
        ...


class ReplayUnavailable(Exception):
    """A replay cannot begin, because the log does not respond. Nothing has changed."""
