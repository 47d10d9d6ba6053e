"""Decides whether, when and how the client comes back after a connection has ended."""

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
from odin_ws_client.core.session import Counts, ProtocolSession
from odin_ws_client.core.subscription_set import SubscriptionSet
from odin_ws_client.core.timing import Timing
from odin_ws_client.core.url import ServerAddress
from odin_ws_client.core.websocket import WebSocket

__all__ = ["Departure", "Reconnector"]


@attrs.frozen
class Departure:
    """The end of a connection for the consumer; `error`: set if the client will not reconnect."""

    disconnected: Disconnected
    error: ClientError | None


@attrs.frozen
class _Ending:
    """How a connection, or the attempt at one, ended.

    `permanent`: the client does not reconnect; `error`: the reason, if the end is a failure.
    `advised`: seconds after which the server advised to reconnect; `not_before`: the least wait.
    """

    code: int
    reason: str
    permanent: bool = False
    error: ClientError | None = None
    advised: float | None = None
    not_before: float = 0


@attrs.define(eq=False)
class Reconnector:
    """Begins each connection where the last one ended. Times are on one clock, in seconds."""

    address: ServerAddress
    credentials: Credentials
    subscriptions: SubscriptionSet
    requests: Requests
    reconnect: bool
    timing: Timing
    rng: random.Random
    counts: Counts
    _backoff: Backoff = attrs.field(init=False)
    # When the last connection on which the subscription took effect ended.
    _left_at: float | None = attrs.field(init=False, default=None)
    # Whether advice was followed since a connection last held for long.
    _advised: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = self.timing.backoff(self.rng)

    def begin(self, token: str | None, began: float) -> Conversation:
        """A conversation over a connection that has been dialled since `began`."""
        session = ProtocolSession(self.subscriptions, self.requests, self.counts, self._left_at)
        return Conversation(
            WebSocket(self.address, token),
            session,
            credentials=self.credentials,
            timing=self.timing,
            rng=self.rng,
            began=began,
        )

    def fail(self, error: ConnectFailed) -> Departure:
        """No connection came about."""
        return self._departure(self._ending(error, None), 0)

    def leave(self, conversation: Conversation, now: float) -> Departure:
        """A conversation has ended."""
        session, accepted_at = conversation.session, conversation.accepted_at
        if session.accepted:
            self._left_at = now
        assert conversation.end is not None
        held = 0 if accepted_at is None else now - accepted_at
        return self._departure(self._ending(conversation.end, session.advice), held)

    def _departure(self, ending: _Ending, held: float) -> Departure:
        if ending.permanent or not self.reconnect:
            return Departure(Disconnected(ending.code, ending.reason, None), ending.error)
        pause = self._pause(ending, held)
        return Departure(Disconnected(ending.code, ending.reason, pause), None)

    def _pause(self, ending: _Ending, held: float) -> float:
        """Seconds until the next attempt.

        Advice is for clients that a server sends away once. What a server advises again before a
        connection held for long is the least that the back-off may be.
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
        """Whether it was about a token, and we can have another."""
        return self.credentials.source is not None and ending in CREDENTIAL_CLOSES
