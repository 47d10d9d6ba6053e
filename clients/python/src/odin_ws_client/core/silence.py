"""Detects a dead server, which sends nothing and does not answer a heartbeat."""

from __future__ import annotations

from typing import Final

__all__ = ["SilenceDetector"]

# If `is_over` is called later than this after the deadline, the client's process was paused.
_LATE_SECONDS: Final = 1.0


class SilenceDetector:
    """A timer of the server's silence.

    Args:
        seconds: the time without a byte before a heartbeat is due, and then before the server
            counts as dead.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._heartbeat_sent = False

    def received(self) -> None:
        """Reset the deadline after received bytes; the next begins when the client reads again."""
        self._deadline = None
        self._heartbeat_sent = False

    def deadline(self, now: float) -> float:
        """Return the time to call `is_over` unless bytes come; the client reads from `now`."""
        if self._deadline is None:
            self._deadline = now + self._seconds
        return self._deadline

    def is_over(self, now: float) -> bool:
        """Return whether the server is dead; if not, the caller must send a heartbeat."""
        # If this process was paused, the answer may have come without being read.
        late = self._deadline is not None and now - self._deadline > _LATE_SECONDS
        if self._heartbeat_sent and not late:
            return True
        self._heartbeat_sent = True
        self._deadline = now + self._seconds
        return False
