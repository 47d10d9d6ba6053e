"""The session: reads a client's commands, limits their rate, executes and acknowledges them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import attrs
import trio

from odin_ws.connection.connection import Connection
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.handshake.authenticator import Authenticator
from odin_ws.protocol.command_parser import decode_steps
from odin_ws.protocol.commands import (
    Auth,
    Command,
    Heartbeat,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
    size_of,
)
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.responses import auth_ack, error_response, pong
from odin_ws.protocol.selection import RejectedName
from odin_ws.resume import ReplayContext
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.session.subscriptions import Subscriptions
from odin_ws.time_slice import TimeSlice
from odin_ws.token_bucket import TokenBucket

__all__ = ["ClientSession", "SessionLimits", "SessionStats"]

# Consecutive rejected commands after which the connection is closed.
_MAX_REJECTED_IN_A_ROW: Final = 50

# Cost of a command that reads history or verifies a signature: 91 clients with ten resumes per
# second each took 75% of a core. By default 20 short ones are allowed at once, enough for a page
# that opens, and two per second in the long run.
_HEAVY: Final = 5

# A command costs one more per this many patterns and positions: a thousand take some milliseconds.
_MANY: Final = 64

# A command costs one more per 128 messages that it delivered, charged afterwards: a snapshot of
# 5,000 takes 20 ms, a short command 0.01. By default a resume of 10,000 messages leaves no debt.
_MESSAGES: Final = 128

# And one more per this many characters: parsing 6,000 positions, which are 47,000 characters, takes
# 8 ms, a short command 0.01. A thousand names have about 12,000 characters.
_LONG: Final = 1024


@attrs.frozen
class SessionLimits:
    """Limits of one client: commands per second and in a burst, and subscriptions.

    Pings and pongs have their own rate limit of the same size.
    """

    command_rate: float
    command_burst: int
    subscriptions: SubscriptionLimits


@attrs.define(eq=False)
class SessionStats:
    """Counts of all clients' messages so far."""

    commands: int = 0
    rate_limited: int = 0
    # Rejected commands and rejected names, by error code.
    rejected_commands: Counter[ErrorCode] = attrs.field(factory=Counter)
    rejected_names: Counter[ErrorCode] = attrs.field(factory=Counter)


class _Responses:
    """The responses to the client.

    Separate from the session: the subscriptions respond too, and two objects that hold each other
    would wait for the garbage collector.
    """

    __slots__ = ("_bucket", "_connection", "_in_a_row", "_most_debt", "_stats")

    def __init__(
        self,
        connection: Connection,
        stats: SessionStats,
        bucket: TokenBucket,
        maximum: int,
    ) -> None:
        self._connection = connection
        self._stats = stats
        self._bucket = bucket
        self._most_debt = maximum
        self._in_a_row = 0

    def respond(self, payload: bytes) -> None:
        """Send a response after all pending messages."""
        self._connection.send_notice(payload)

    def reject_command(self, error: CommandError) -> None:
        """Respond with an error; too many in a row close the connection."""
        self._stats.rejected_commands[error.code] += 1
        self._in_a_row += 1
        self.respond(error_response(error))
        if self._in_a_row >= _MAX_REJECTED_IN_A_ROW:
            flood = error.code is ErrorCode.RATE_LIMIT_EXCEEDED
            self._connection.close(
                DisconnectReason.FLOODING if flood else DisconnectReason.BAD_COMMANDS
            )

    def count_rejected_names(self, names: Iterable[RejectedName]) -> None:
        """Count rejected names; the response has the reasons."""
        self._stats.rejected_names.update(name.code for name in names)

    def charge(self, messages: int) -> None:
        """Charge the messages of a command; the debt is limited to `burst / rate` seconds."""
        self._bucket.spend_down_to(messages // _MESSAGES, -self._most_debt, trio.current_time())

    def went_live(self, topics: Sequence[str]) -> None:
        """Do nothing: the client keeps its positions itself."""

    def accept(self) -> None:
        """Count an executed command."""
        self._in_a_row = 0


class ClientSession:
    """Reads a client's commands, executes them, and sends responses."""

    __slots__ = (
        "_authenticator",
        "_bucket",
        "_catalogue",
        "_connection",
        "_control",
        "_limits",
        "_responder",
        "_slice",
        "_stats",
        "_subscriptions",
    )

    def __init__(
        self,
        connection: Connection,
        context: ReplayContext,
        limits: SessionLimits,
        stats: SessionStats,
        authenticator: Authenticator,
    ) -> None:
        self._connection = connection
        self._authenticator = authenticator
        self._catalogue = context.hub.stream.catalogue
        self._limits = limits
        self._stats = stats
        self._slice = TimeSlice(context.scans.wait_for_work_slice)
        # The bucket starts full, so the time does not matter.
        self._bucket = TokenBucket(limits.command_rate, limits.command_burst, connection.opened_at)
        self._responder = _Responses(connection, stats, self._bucket, limits.command_burst)
        self._subscriptions = Subscriptions(
            connection, context, limits.subscriptions, self._responder
        )
        # The bucket of pings and pongs; created with the first of them.
        self._control: TokenBucket | None = None

    def begin_time_slice(self) -> None:
        """Begin a time slice for the client's next commands."""
        self._slice.begin()

    async def receive(self, message: str | bytes) -> None:
        """Execute one command and respond; a binary message closes the connection.

        Waits only for further turns of the client, if the command takes long.
        """
        if isinstance(message, bytes):
            self._connection.close(DisconnectReason.BINARY)
            return
        self._stats.commands += 1
        try:
            self._check_rate(len(message))
            await self._execute(message)
        except CommandError as error:
            self._responder.reject_command(error)
        else:
            self._responder.accept()
        if self._slice.expired:
            await self._slice.yield_control()

    def control(self) -> bool:
        """Count a ping or pong; returns whether it may be answered.

        Too many close the connection.
        """
        limits, now = self._limits, trio.current_time()
        if self._control is None:
            self._control = TokenBucket(limits.command_rate, limits.command_burst, now)
        if self._control.available(now):
            self._control.spend(1)
            return True
        self._connection.close(DisconnectReason.FLOODING)
        return False

    def _check_rate(self, size: int) -> None:
        if not self._bucket.available(trio.current_time()):
            self._stats.rate_limited += 1
            limits = self._limits
            raise CommandError(
                ErrorCode.RATE_LIMIT_EXCEEDED,
                f"ignored: at most {limits.command_rate:g} commands per second are allowed, "
                f"{limits.command_burst} in a burst; a command that replays or renews the token "
                f"counts as {_HEAVY}, and any command counts once more for each {_LONG} "
                f"characters, {_MANY} patterns or {_MESSAGES} replayed messages",
                retry=True,
                retry_ms=math.ceil(1000 * self._bucket.seconds_until_available()),
            )
        # May leave a debt: the command that causes it is executed. The debt is limited, because
        # with a large WS_MAX_MESSAGE_BYTES the client could not renew its token for minutes.
        self._bucket.spend(1 + min(size // _LONG, self._limits.command_burst))

    async def _execute(self, text: str) -> None:
        limits = self._limits
        maximum = self._subscriptions.admission.max_patterns
        command = await self._slice.run(decode_steps(text, self._catalogue, maximum))
        more = (_HEAVY - 1) * _is_expensive(command) + size_of(command) // _MANY
        self._bucket.spend(min(more, limits.command_burst))
        match command:
            case Heartbeat(command_id):
                self._responder.respond(pong(command_id, time.time_ns() // 1_000_000))
            case Auth():
                await self._renew(command)
            case Unsubscribe():
                await self._subscriptions.end(command, self._slice)
            case _:
                await self._subscriptions.begin(command, self._slice)

    async def _renew(self, command: Auth) -> None:
        self._authenticator.reauthenticate(command, self._connection)
        await self._subscriptions.restrict(self._slice)
        self._responder.respond(auth_ack(command.id, self._connection.grant.expires_at))


def _is_expensive(command: Command) -> bool:
    match command:
        case Resume() | Reconnect() | Resend() | Auth():
            return True
        case Subscribe():
            return command.snapshot or command.since_ms is not None
        case _:
            return False
