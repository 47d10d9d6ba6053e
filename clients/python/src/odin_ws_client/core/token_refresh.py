"""When to fetch another token on a live connection, before the current one expires."""

from __future__ import annotations

import random
from typing import Final

from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.errors import InvalidCredential
from odin_ws_client.core.session import ProtocolSession

__all__ = ["TokenRefresh"]

# The wait between two attempts. With less than two of them left before the expiry the client
# reconnects and resumes instead.
_LEAST_SECONDS: Final = 1.0


class TokenRefresh:
    """Says when the function that returns tokens is to be called, for one connection.

    An attempt is made within half of the time that is left: all tokens of a crowd may end together,
    and where it fails there is time for others. If none succeeds the server closes, and nothing is
    lost by that.
    """

    def __init__(self, credentials: Credentials, rng: random.Random) -> None:
        self._credentials = credentials
        self._rng = rng
        self._end = 0.0
        self._retry_in: float | None = None
        self._busy = False

    def begins(self, session: ProtocolSession) -> bool:
        """Read what the server has said about tokens; whether attempts have to begin."""
        if session.token_taken:
            session.token_taken = False
            self._credentials.taken()
        end, session.token_ends_at = session.token_ends_at, None
        if end is None or self._credentials.source is None or self._busy:
            return False
        self._end, self._retry_in = end, session.token_retry_in
        self._busy = True
        return True

    def pause(self, now: float) -> float | None:
        """Seconds until the next attempt; None if there is no time for another."""
        left = self._end - now
        if left <= 2 * _LEAST_SECONDS:
            self._busy = False
            return None
        pause = self._rng.uniform(0, left / 2)
        if self._retry_in is not None and self._retry_in < left:
            # The server knows when it can verify the token, and has spread its clients.
            pause = self._retry_in
        self._retry_in = None
        return max(_LEAST_SECONDS, pause)

    def offer(self, token: object) -> str | None:
        """The token to send; None if it would only be told to be ending again."""
        try:
            another = self._credentials.offer(token)
        except InvalidCredential:
            return None
        self._busy = another is None
        return another
