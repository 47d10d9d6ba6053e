"""Keeps the client connected: connect, subscribe or resume, receive, back off, reconnect."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

import attrs
import trio

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
from odin_ws_client.core.credentials import Credentials
from odin_ws_client.core.errors import (
    ClientError,
    ClosedByServer,
    ConnectFailed,
    HandshakeRejected,
    ProtocolViolated,
    SubscriptionRejected,
)
from odin_ws_client.core.items import Checkpoint, Disconnected, Item
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.session import HEARTBEAT, Counts, ProtocolSession
from odin_ws_client.core.subscription import Subscription
from odin_ws_client.core.url import ServerAddress
from odin_ws_client.trio.connection import Connect, Connection, open_connection
from odin_ws_client.trio.credentials import current_token
from odin_ws_client.trio.token_refresh import TokenRefresh

__all__ = ["Reconnector", "Timing"]

# A server waits for its Kafka for half a minute; one that is dead falls silent sooner.
_ANSWER_SECONDS: Final = 60


@attrs.frozen
class Timing:
    """Seconds; what they are for says `open_client`."""

    connect: float
    silence: float
    backoff_base: float
    backoff_cap: float

    def backoff(self, rng: random.Random) -> Backoff:
        """One that has not waited yet."""
        return Backoff(self.backoff_base, self.backoff_cap, rng)


@attrs.frozen
class _Ending:
    """How a connection ended, or the attempt at one.

    `permanent`: coming back makes no sense; `error`: why, where that is not as it should be.
    `advised`: the server asked to come back after so many seconds; `not_before`: or later.
    """

    code: int
    reason: str
    permanent: bool = False
    error: ClientError | None = None
    advised: float | None = None
    not_before: float = 0


@attrs.frozen
class _Attempt:
    """A connection that stands, and what it is for."""

    connection: Connection
    session: ProtocolSession
    token_refresh: TokenRefresh


@attrs.define(eq=False)
class Reconnector:
    """Puts what comes into `channel`, each read of the socket as a batch."""

    connect: Connect
    address: ServerAddress
    tokens: Credentials
    subscription: Subscription
    reconnect: bool
    timing: Timing
    rng: random.Random
    offset_tracker: OffsetTracker
    counts: Counts
    channel: trio.MemorySendChannel[Sequence[Item | Checkpoint]]
    _backoff: Backoff = attrs.field(init=False)
    _left_at: float | None = attrs.field(init=False, default=None)
    # When the subscription of this connection took effect.
    _accepted_at: float | None = attrs.field(init=False, default=None)
    # Whether advice was followed since a connection last held for long.
    _advised: bool = attrs.field(init=False, default=False)
    _snapshot_due: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._backoff = self.timing.backoff(self.rng)
        self._snapshot_due = self.subscription.snapshot and not self.offset_tracker

    async def run(self) -> None:
        """Until coming back makes no sense. Raises ClientError where that is not as it should."""
        while True:
            ending = await self._connect_once()
            if ending.permanent or not self.reconnect:
                await self._tell(ending, None)
                if ending.error is not None:
                    raise ending.error
                return
            pause = self._pause(ending)
            await self._tell(ending, pause)
            await trio.sleep(pause)

    def _pause(self, ending: _Ending) -> float:
        """Seconds until the next attempt.

        Advice is for clients that a server sends away once. What a server advises again before a
        connection held for long is the least that the back-off may be.
        """
        held = 0.0 if self._accepted_at is None else trio.current_time() - self._accepted_at
        if held >= self.timing.backoff_cap and ending.code not in FAILURES:
            self._backoff.reset()
            self._advised = False
        if ending.advised is not None and not self._advised:
            self._advised = True
            return ending.advised
        return max(ending.advised or 0, ending.not_before, self._backoff.next())

    async def _tell(self, ending: _Ending, retry_in: float | None) -> None:
        await self.channel.send((Disconnected(ending.code, ending.reason, retry_in),))

    async def _connect_once(self) -> _Ending:
        """One connection, from the attempt to its end."""
        session = ProtocolSession(
            self.subscription,
            self.offset_tracker,
            self.counts,
            self._left_at,
            snapshot_due=self._snapshot_due,
        )
        self._accepted_at = None
        async with trio.open_nursery() as nursery:
            token_refresh = TokenRefresh(self.tokens, self.timing.connect, self.rng, nursery)
            ending = await self._run_connection(session, token_refresh)
            nursery.cancel_scope.cancel()
        self._snapshot_due = session.snapshot_due
        if session.accepted:
            self._left_at = trio.current_time()
        return ending

    async def _run_connection(
        self, session: ProtocolSession, token_refresh: TokenRefresh
    ) -> _Ending:
        try:
            token = await current_token(self.tokens, self.timing.connect)
            async with await open_connection(
                self.connect,
                self.address,
                token=token,
                seconds=self.timing.connect,
                silence=self.timing.silence,
                heartbeat=HEARTBEAT,
            ) as connection:
                attempt = _Attempt(connection, session, token_refresh)
                await self._subscribe(attempt)
                while True:
                    await self._receive_once(attempt)
        except Ended as end:
            return self._after_close(end, session.advice)
        except Unacceptable as end:
            violation = ProtocolViolated(end.reason) if end.permanent else None
            return _Ending(end.code, end.reason, end.permanent, violation)
        except SubscriptionRejected as error:
            return _Ending(NORMAL, str(error), permanent=True, error=error)
        except ConnectFailed as error:
            permanent = error.permanent and not (
                isinstance(error, HandshakeRejected) and self._can_change(error.status)
            )
            return _Ending(ABNORMAL, str(error), permanent, error, not_before=error.retry_after)

    def _after_close(self, end: Ended, advice: float | None) -> _Ending:
        if end.code == NORMAL:
            return _Ending(end.code, end.reason, permanent=True)
        if is_permanent_close(end.code, end.reason) and not self._can_change(end.code):
            error = ClosedByServer(end.code, end.reason)
            return _Ending(end.code, end.reason, permanent=True, error=error)
        return _Ending(end.code, end.reason, advised=advice)

    def _can_change(self, ending: int) -> bool:
        """Whether it was about a token, and we can have another."""
        return self.tokens.source is not None and ending in CREDENTIAL_CLOSES

    async def _subscribe(self, attempt: _Attempt) -> None:
        """Ask for the subscription, again where that is put off."""
        session = attempt.session
        asking = self.timing.backoff(self.rng)
        while not session.accepted:
            await attempt.connection.send(session.command())
            deadline = trio.current_time() + _ANSWER_SECONDS
            while session.asked:
                if trio.current_time() >= deadline:
                    raise Ended(ABNORMAL, f"no answer within {_ANSWER_SECONDS} s")
                await self._receive_once(attempt, deadline)
            if session.put_off:
                pause = asking.next()
                deadline = trio.current_time() + (session.retry_in or pause)
                while trio.current_time() < deadline:
                    await self._receive_once(attempt, deadline)
        self._accepted_at = trio.current_time()

    async def _receive_once(self, attempt: _Attempt, deadline: float = math.inf) -> None:
        await self._pass_on(attempt.session, await attempt.connection.receive(deadline))
        await attempt.token_refresh.attend(attempt.session, attempt.connection)

    async def _pass_on(self, session: ProtocolSession, texts: Sequence[str]) -> None:
        """Waits while the consumer has enough: then nothing is read, and the server notices."""
        now = trio.current_time()
        items: list[Item | Checkpoint] = []
        try:
            for text in texts:
                items.extend(session.take(text, now))
        finally:
            # Also what came before a message that ends the connection: it counts as received.
            if items:
                await self.channel.send(items)
