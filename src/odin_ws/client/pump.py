"""Keeps a client connected: connect, subscribe or resume, receive, come back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from odin_ws.client.backoff import Backoff
from odin_ws.client.connection import Connect, Connection, open_connection
from odin_ws.client.endings import ABNORMAL, NORMAL, Ended, Unacceptable, is_lasting_close
from odin_ws.client.errors import (
    ClientError,
    ClosedByServer,
    ConnectFailed,
    ProtocolViolated,
    SubscriptionRejected,
)
from odin_ws.client.items import Disconnected, Item, Reached
from odin_ws.client.positions import Ledger
from odin_ws.client.session import HEARTBEAT, Counts, Session
from odin_ws.client.subscription import Subscription
from odin_ws.client.url import Place

__all__ = ["Pump", "Timing"]

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

    `lasting`: coming back makes no sense; `error`: why, where that is not as it should be.
    `advised`: the server asked to come back after so many seconds; `not_before`: or later.
    """

    code: int
    reason: str
    lasting: bool = False
    error: ClientError | None = None
    advised: float | None = None
    not_before: float = 0


@attrs.define(eq=False)
class Pump:
    """Puts what comes into `channel`, each read of the socket as a batch."""

    connect: Connect
    place: Place
    subscription: Subscription
    reconnect: bool
    timing: Timing
    rng: random.Random
    ledger: Ledger
    counts: Counts
    channel: trio.MemorySendChannel[Sequence[Item | Reached]]
    _backoff: Backoff = attrs.field(init=False)
    _left_at: float | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._backoff = self.timing.backoff(self.rng)

    async def run(self) -> None:
        """Until coming back makes no sense. Raises ClientError where that is not as it should."""
        while True:
            ending = await self._visit()
            if ending.lasting or not self.reconnect:
                await self._tell(ending, None)
                if ending.error is not None:
                    raise ending.error
                return
            pause = ending.advised
            if pause is None:
                pause = max(ending.not_before, self._backoff.next())
            await self._tell(ending, pause)
            await trio.sleep(pause)

    async def _tell(self, ending: _Ending, retry_in: float | None) -> None:
        await self.channel.send((Disconnected(ending.code, ending.reason, retry_in),))

    async def _visit(self) -> _Ending:
        """One connection, from the attempt to its end."""
        session = Session(self.subscription, self.ledger, self.counts, self._left_at)
        began = trio.current_time()
        ending = await self._stay(session)
        if session.accepted:
            self._left_at = trio.current_time()
            # Where nothing is published a connection that held for long was a good one too.
            if session.delivered or self._left_at - began > self.timing.backoff_cap:
                self._backoff.reset()
        return ending

    async def _stay(self, session: Session) -> _Ending:
        try:
            async with await open_connection(
                self.connect,
                self.place,
                seconds=self.timing.connect,
                silence=self.timing.silence,
                heartbeat=HEARTBEAT,
            ) as connection:
                await self._agree(connection, session)
                while True:
                    await self._pass_on(session, await connection.receive())
        except Ended as end:
            return _after_close(end, session.advice)
        except Unacceptable as end:
            violation = ProtocolViolated(end.reason) if end.lasting else None
            return _Ending(end.code, end.reason, end.lasting, violation)
        except SubscriptionRejected as error:
            return _Ending(NORMAL, str(error), lasting=True, error=error)
        except ConnectFailed as error:
            return _Ending(ABNORMAL, str(error), error.lasting, error, not_before=error.retry_after)

    async def _agree(self, connection: Connection, session: Session) -> None:
        """Ask for the subscription, again where that is put off."""
        asking = self.timing.backoff(self.rng)
        while not session.accepted:
            await connection.send(session.command())
            deadline = trio.current_time() + _ANSWER_SECONDS
            while session.asked:
                if trio.current_time() >= deadline:
                    raise Ended(ABNORMAL, f"no answer within {_ANSWER_SECONDS} s")
                await self._pass_on(session, await connection.receive(deadline))
            if session.put_off:
                deadline = trio.current_time() + asking.next()
                while trio.current_time() < deadline:
                    await self._pass_on(session, await connection.receive(deadline))

    async def _pass_on(self, session: Session, texts: Sequence[str]) -> None:
        """Waits while the consumer has enough: then nothing is read, and the server notices."""
        now = trio.current_time()
        items: list[Item | Reached] = []
        try:
            for text in texts:
                item = session.take(text, now)
                if item is not None:
                    items.append(item)
        finally:
            # Also what came before a message that ends the connection: it counts as received.
            if items:
                await self.channel.send(items)


def _after_close(end: Ended, advice: float | None) -> _Ending:
    if end.code == NORMAL:
        return _Ending(end.code, end.reason, lasting=True)
    if is_lasting_close(end.code, end.reason):
        error = ClosedByServer(end.code, end.reason)
        return _Ending(end.code, end.reason, lasting=True, error=error)
    return _Ending(end.code, end.reason, advised=advice)
