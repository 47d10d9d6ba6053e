"""Detects a dead server: it sends nothing, and does not answer a heartbeat."""

from __future__ import annotations

from typing import Final

__all__ = ["SilenceDetector"]

# A deadline that is noticed later than this was missed by the client and not by the server.
_LATE_SECONDS: Final = 1.0


class SilenceDetector:
    """After `seconds` without a byte the server is to be asked, and has as many to answer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: float | None = None
        self._asked = False

    def heard(self) -> None:
        """Something came. The next silence begins when the client reads again."""
        self._deadline = None
        self._asked = False

    def deadline(self, now: float) -> float:
        """When `is_over` has to be called, if nothing comes before; the client reads from now."""
        if self._deadline is None:
            self._deadline = now + self._seconds
        return self._deadline

    def is_over(self, now: float) -> bool:
        """Whether the server is gone; if not, it has to be asked."""
        # If this process was paused, the answer may be there and was not read yet.
        late = self._deadline is not None and now - self._deadline > _LATE_SECONDS
        if self._asked and not late:
            return True
        self._asked = True
        self._deadline = now + self._seconds
        return False
