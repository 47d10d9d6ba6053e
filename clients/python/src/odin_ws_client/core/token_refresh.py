"""Schedules calls of the token function on a live connection, before the token expires."""

from __future__ import annotations

import random
from typing import Final

from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.errors import InvalidCredential
from odin_ws_client.core.session import ProtocolSession

__all__ = ["TokenRefresh"]

# The least wait between two attempts. With less than twice this time left before the expiry the
# client reconnects and resumes instead.
_MIN_SECONDS: Final = 1.0


class TokenRefresh:
    """The schedule of the calls of the token function for one connection.

    Each attempt is at a random time in the first half of the remaining time: tokens of many clients
    may expire together, and a failed attempt leaves time for another. If no attempt succeeds, the
    server closes the connection, and the client resumes without a loss.
    """

    def __init__(self, credentials: Credentials, rng: random.Random) -> None:
        self._credentials = credentials
        self._rng = rng
        self._end = 0.0
        self._retry_in: float | None = None
        self._busy = False

    def begins(self, session: ProtocolSession) -> bool:
        """Apply the token messages of `session`; return whether attempts have to begin."""
        if session.token_accepted:
            session.token_accepted = False
            self._credentials.taken()
        end, session.token_ends_at = session.token_ends_at, None
        if end is None or self._credentials.source is None or self._busy:
            return False
        self._end, self._retry_in = end, session.token_retry_in
        self._busy = True
        return True

    def pause(self, now: float) -> float | None:
        """Return the seconds until the next attempt; None without time for another attempt."""
        left = self._end - now
        if left <= 2 * _MIN_SECONDS:
            self._busy = False
            return None
        pause = self._rng.uniform(0, left / 2)
        if self._retry_in is not None and self._retry_in < left:
            # The server's `retry_ms` is when it can verify the token, spread over its clients.
            pause = self._retry_in
        self._retry_in = None
        return max(_MIN_SECONDS, pause)

    def offer(self, token: object) -> str | None:
        """Return `token` to be sent; None if it is invalid, or the current token, which expires."""
        try:
            another = self._credentials.offer(token)
        except InvalidCredential:
            return None
        self._busy = another is None
        return another
