"""Decides whether and when the client reconnects, and creates each connection's state."""

from __future__ import annotations

import random

import attrs

from odin_ws_client.core.backoff import Backoff
from odin_ws_client.core.close_codes import (
    ABNORMAL,
    CREDENTIAL_CLOSES,
    FAILURES,
    NORMAL,
    Ended,
    Unacceptable,
    is_permanent_close,
)
from odin_ws_client.core.conversation import Conversation, End
from odin_ws_client.core.counts import Counts
from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.errors import (
    ClientError,
    ClosedByServer,
    ConnectFailed,
    HandshakeRejected,
    ProtocolViolated,
    SubscriptionRejected,
)
from odin_ws_client.core.items import Disconnected
from odin_ws_client.core.requests import Requests
from odin_ws_client.core.session import ProtocolSession
from odin_ws_client.core.subscription_set import SubscriptionSet
from odin_ws_client.core.timing import Timing
from odin_ws_client.core.url import ServerAddress
from odin_ws_client.core.websocket import WebSocket

__all__ = ["Departure", "Reconnector"]


@attrs.frozen
class Departure:
    """The outcome of a connection, or of an attempt to connect."""

    disconnected: Disconnected
    """The item for the consumer."""
    error: ClientError | None
    """The failure that ends the client; None if the client reconnects or ends normally."""


@attrs.frozen
class _Ending:
    """The end of a connection, or of an attempt to connect."""

    code: int
    """The close code; 1006 without a close frame."""
    reason: str
    """The reason in the close frame, or the client's own."""
    permanent: bool = False
    """True if the client must not reconnect."""
    error: ClientError | None = None
    """The failure; None for a normal end."""
    advised: float | None = None
    """The wait that the server advised, seconds."""
    not_before: float = 0
    """The least wait before the next attempt, seconds."""


@attrs.define(eq=False)
class Reconnector:
    """The state of a client across its connections. Times are seconds on one monotonic clock."""

    address: ServerAddress
    credentials: Credentials
    subscriptions: SubscriptionSet
    requests: Requests
    reconnect: bool
    timing: Timing
    rng: random.Random
    counts: Counts = attrs.field(factory=Counts)
    _backoff: Backoff = attrs.field(init=False)
    # The time when the last connection with an accepted subscription ended.
    _disconnected_at: float | None = attrs.field(init=False, default=None)
    # True if the server's advice was followed since a connection last held for `backoff_cap`.
    _advised: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = self.timing.backoff(self.rng)

    def begin(self, token: str | None, began: float) -> Conversation:
        """Return the state of a new connection, whose dialling began at `began`."""
        session = ProtocolSession(
            self.subscriptions, self.requests, self.counts, self._disconnected_at
        )
        return Conversation(
            WebSocket(self.address, token),
            session,
            credentials=self.credentials,
            timing=self.timing,
            rng=self.rng,
            began=began,
        )

    def fail(self, error: ConnectFailed) -> Departure:
        """Return the outcome of an attempt to connect that failed."""
        return self._departure(self._ending(error, None), 0)

    def leave(self, conversation: Conversation, now: float) -> Departure:
        """Return the outcome of a conversation that has ended."""
        session, accepted_at = conversation.session, conversation.accepted_at
        if session.accepted:
            self._disconnected_at = now
        assert conversation.end is not None
        held = 0 if accepted_at is None else now - accepted_at
        return self._departure(self._ending(conversation.end, session.advice), held)

    def _departure(self, ending: _Ending, held: float) -> Departure:
        if ending.permanent or not self.reconnect:
            return Departure(Disconnected(ending.code, ending.reason, None), ending.error)
        pause = self._pause(ending, held)
        return Departure(Disconnected(ending.code, ending.reason, pause), None)

    def _pause(self, ending: _Ending, held: float) -> float:
        """Return the seconds until the next attempt.

        The server's advice replaces the back-off once. Until a connection has held for
        `backoff_cap`, later advice is only the least wait: a server that repeats a short wait must
        not disable the back-off.
        """
        if held >= self.timing.backoff_cap and ending.code not in FAILURES:
            self._backoff.reset()
            self._advised = False
        if ending.advised is not None and not self._advised:
            self._advised = True
            return ending.advised
        return max(ending.advised or 0, ending.not_before, self._backoff.next())

    def _ending(self, end: End, advice: float | None) -> _Ending:
        match end:
            case Ended():
                return self._after_close(end, advice)
            case Unacceptable(code, reason, permanent):
                violation = ProtocolViolated(reason) if permanent else None
                return _Ending(code, reason, permanent, violation)
            case SubscriptionRejected():
                return _Ending(NORMAL, str(end), permanent=True, error=end)
            case ConnectFailed():
                permanent = end.permanent and not (
                    isinstance(end, HandshakeRejected) and self._can_change(end.status)
                )
                return _Ending(ABNORMAL, str(end), permanent, end, not_before=end.retry_after)

    def _after_close(self, end: Ended, advice: float | None) -> _Ending:
        if end.code == NORMAL:
            return _Ending(end.code, end.reason, permanent=True)
        if is_permanent_close(end.code, end.reason) and not self._can_change(end.code):
            error = ClosedByServer(end.code, end.reason)
            return _Ending(end.code, end.reason, permanent=True, error=error)
        return _Ending(end.code, end.reason, advised=advice)

    def _can_change(self, ending: int) -> bool:
        """Return whether another token may change the close code or HTTP status `ending`."""
        return self.credentials.source is not None and ending in CREDENTIAL_CLOSES
