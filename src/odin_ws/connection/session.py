"""One client's commands: read, carried out on the hub, and answered, each of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

import attrs
import trio
import trio_websocket

from odin_ws.catalogue import Catalogue
from odin_ws.connection.closing import Close
from odin_ws.hub import Hub, Subscriber
from odin_ws.protocol.answers import error_answer, pong, subscription_ack, unsubscription_ack
from odin_ws.protocol.commands import (
    CommandError,
    ErrorCode,
    Heartbeat,
    Rejection,
    Subscribe,
    Unsubscribe,
    decode_command,
)
from odin_ws.protocol.frames import text_frame
from odin_ws.rates import TokenBucket

__all__ = ["Session", "SessionLimits", "SessionStats"]

# A client whose every command is refused is broken; it is told so by a close, not for ever.
_MAX_REFUSED_IN_A_ROW: Final = 50


@attrs.frozen
class SessionLimits:
    """What one client may ask for: patterns at once, commands per second and in a burst."""

    subscriptions: int
    command_rate: float
    command_burst: int


@attrs.define(eq=False)
class SessionStats:
    """What all clients together have said so far."""

    commands: int = 0
    refused: int = 0
    rate_limited: int = 0


class Client(Protocol):
    """A connection, as its session sees it: who gets the messages, and how it ends."""

    subscriber: Subscriber
    closing: Close | None

    def close(self, reason: Close) -> None:
        """Begin to close."""
        ...


class Session:
    """Turns what a client says into changes of its subscriptions and into answers."""

    def __init__(
        self,
        connection: Client,
        hub: Hub,
        catalogue: Catalogue,
        limits: SessionLimits,
        stats: SessionStats,
    ) -> None:
        self._connection = connection
        self._subscriber = connection.subscriber
        self._hub = hub
        self._catalogue = catalogue
        self._limits = limits
        self._stats = stats
        self._bucket = TokenBucket(limits.command_rate, limits.command_burst, trio.current_time())
        self._refused_in_a_row = 0

    async def run(self, websocket: trio_websocket.WebSocketConnection) -> None:
        """Read and answer commands until the connection is closed, by whomever."""
        while True:
            try:
                text = await websocket.get_message()
            except trio_websocket.ConnectionClosed:
                return
            # Once we have closed, only the peer's close is waited for.
            if self._connection.closing is None:
                self._receive(text)

    def _receive(self, text: str | bytes) -> None:
        self._stats.commands += 1
        if isinstance(text, bytes):
            self._connection.close(Close.BINARY)
            return
        try:
            self._check_rate()
            self._carry_out(text)
        except CommandError as error:
            self._refuse(error)
        else:
            self._refused_in_a_row = 0

    def _check_rate(self) -> None:
        if not self._bucket.available(trio.current_time()):
            self._stats.rate_limited += 1
            limits = self._limits
            raise CommandError(
                ErrorCode.RATE_LIMIT_EXCEEDED,
                f"at most {limits.command_rate:g} commands per second, "
                f"{limits.command_burst} in a burst; this one was ignored",
                retry=True,
            )
        self._bucket.spend(1)

    def _refuse(self, error: CommandError) -> None:
        self._stats.refused += 1
        self._refused_in_a_row += 1
        self._answer(error_answer(error))
        if self._refused_in_a_row >= _MAX_REFUSED_IN_A_ROW:
            flood = error.code is ErrorCode.RATE_LIMIT_EXCEEDED
            self._connection.close(Close.FLOODING if flood else Close.BAD_COMMANDS)

    def _carry_out(self, text: str) -> None:
        match decode_command(text, self._catalogue):
            case Subscribe() as command:
                self._subscribe(command)
            case Unsubscribe() as command:
                self._unsubscribe(command)
            case Heartbeat(command_id):
                self._answer(pong(command_id, time.time_ns() // 1_000_000))

    def _subscribe(self, command: Subscribe) -> None:
        subscriber = self._subscriber
        rejected = list(command.selection.rejected)
        accepted: dict[str, Sequence[str]] = {}
        patterns = set(subscriber.patterns)
        for name, wanted in command.selection.wanted.items():
            if len(patterns.union(wanted)) > self._limits.subscriptions:
                message = f"at most {self._limits.subscriptions} subscriptions per connection"
                rejected.append(Rejection(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message))
            else:
                patterns.update(wanted)
                accepted[name] = wanted
        self._hub.subscribe(
            subscriber, (pattern for wanted in accepted.values() for pattern in wanted)
        )
        topics = self._topics(accepted)
        self._answer(
            subscription_ack(
                command.id,
                subscriber.dialect,
                subscribed=list(accepted),
                rejected=rejected,
                count=len(subscriber.patterns),
                positions=self._hub.positions(topics) if command.positions else None,
                partitions=self._hub.partitions(topics) if self._hub.partial else None,
            )
        )

    def _unsubscribe(self, command: Unsubscribe) -> None:
        subscriber = self._subscriber
        rejected = list(command.selection.rejected)
        gone = []
        for name, patterns in command.selection.wanted.items():
            if self._hub.unsubscribe(subscriber, patterns):
                gone.append(name)
            else:
                rejected.append(Rejection(name, ErrorCode.NOT_SUBSCRIBED, "not subscribed"))
        self._answer(
            unsubscription_ack(
                command.id,
                subscriber.dialect,
                unsubscribed=gone,
                rejected=rejected,
                count=len(subscriber.patterns),
            )
        )

    def _topics(self, accepted: dict[str, Sequence[str]]) -> list[str]:
        """The topics that patterns read from, in the catalogue's order."""
        endings = {
            pattern.rpartition(".")[2] for patterns in accepted.values() for pattern in patterns
        }
        return [
            topic.name
            for topic in self._catalogue.topics.values()
            if topic.category in endings or "*" in endings
        ]

    def _answer(self, payload: bytes) -> None:
        """Answer after everything that is due: a client may rely on that order."""
        self._hub.flush(self._subscriber)
        self._subscriber.deliver(text_frame(payload))
