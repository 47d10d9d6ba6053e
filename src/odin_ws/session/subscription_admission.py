"""Limits of subscriptions: decides which patterns are granted, within limits, within memory.

All checks happen before any change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import attrs

from odin_ws.auth.grants import not_granted
from odin_ws.handshake.memory_budget import MemoryBudget
from odin_ws.handshake.retry_after import retry_ms
from odin_ws.hub import Hub, SubscriptionOptions
from odin_ws.hub.subscription_index import SubscriptionIndex
from odin_ws.protocol.commands import Reconnect, Resume, Subscribe
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.selection import RejectedName, Selection
from odin_ws.session.deferred_commands import StartCommand, waiting_bytes
from odin_ws.session.subscriber_connection import SubscriberConnection
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = [
    "REPLAY_BYTES",
    "Admitted",
    "Names",
    "SubscriptionAdmission",
    "SubscriptionLimits",
    "patterns_in",
    "unavailable",
]

# Memory of a subscription in the connection and in the subscriber set, and of the first
# subscription of a pattern besides that and its name (`python -m tests.hostile.memory`).
_PATTERN_BYTES: Final = 200
_NEW_PATTERN_BYTES: Final = 800

# Memory of a subscription's rate and filter, in sets and a pace of their own.
_OPTIONS_BYTES: Final = 1000

# Memory of a running replay: a chunk that was read and one that is written.
REPLAY_BYTES: Final = 128 << 10

_NO_MEMORY: Final = "the server is short of memory; nothing has changed"

# Names as the client wrote them, with their patterns.
Names = dict[str, Sequence[str]]


@attrs.frozen
class SubscriptionLimits:
    """The limits of one client."""

    patterns: int
    """Number of patterns."""
    threshold_bytes: int
    """Unsent bytes from which on a client with `delivery: "latest"` gets no further messages."""
    held_bytes: int
    """Bytes of held messages beyond which a client with `delivery: "latest"` is slow."""
    grace: float
    """Seconds that the oldest unsent byte of other clients may wait."""
    stuck: float
    """Seconds for which a client with `delivery: "latest"` may read nothing."""
    pattern_bytes: int = 64 << 10
    """Total length of the patterns, in UTF-8."""
    filters: int = 10
    """Distinct filters of one connection."""
    budget: MemoryBudget = attrs.field(factory=MemoryBudget)
    """Memory of all connections together: if none is left, new work is rejected."""

    def room(self, patterns: Collection[str]) -> int:
        """Return how many more bytes of patterns fit beside these."""
        return self.pattern_bytes - _size_of_patterns(patterns)

    @property
    def no_room(self) -> str:
        """The error text for patterns that are too long in total."""
        return f"at most {self.pattern_bytes} bytes of subscriptions per connection"

    def take(self, size: int) -> bool:
        """Charge memory in bytes; returns whether there was enough."""
        return not size or self.budget.take(size)


class Admitted(NamedTuple):
    """The admitted names with their patterns, and the rejected ones.

    `memory`: bytes that the patterns will take.
    """

    names: Names
    rejected: list[RejectedName]
    memory: int


class SubscriptionAdmission:
    """Checks one client's patterns against its grant, its limits, and the memory budget."""

    __slots__ = ("_client", "_hub", "_limits")

    def __init__(self, client: SubscriberConnection, hub: Hub, limits: SubscriptionLimits) -> None:
        self._client = client
        self._hub = hub
        self._limits = limits

    @property
    def max_patterns(self) -> int:
        """The client's limit, by the settings and its JWT."""
        own = self._client.grant.max_subscriptions
        return self._limits.patterns if own is None else min(own, self._limits.patterns)

    def admit(self, selection: Selection, *, has_options: bool = False) -> Steps[Admitted]:
        """Return which names are granted and within the limits.

        `has_options`: True if the subscriptions will have a rate or a filter.
        """
        grant, maximum = self._client.grant, self.max_patterns
        rejected = list(selection.rejected)
        names: Names = {}
        patterns = set(self._client.subscriber.patterns)
        room = self._limits.room(patterns)
        handled = memory = 0
        for name, wanted in selection.wanted.items():
            handled += len(wanted)
            if handled >= STEP_ITEMS:
                handled = 0
                yield
            new = {*wanted} - patterns
            if missing := grant.missing(wanted):
                rejected.append(RejectedName(name, ErrorCode.FORBIDDEN, not_granted(missing)))
            elif len(patterns) + len(new) > maximum:
                message = f"at most {maximum} subscriptions per connection"
                rejected.append(RejectedName(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message))
            elif (size := _size_of_patterns(new)) > room:
                message = self._limits.no_room
                rejected.append(RejectedName(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message))
            else:
                room -= size
                for begin in range(0, len(wanted), STEP_ITEMS):
                    part = wanted[begin : begin + STEP_ITEMS]
                    memory += self._memory_of(part)
                    if has_options:
                        memory += self._memory_of_options(part)
                    if begin:
                        yield
                patterns.update(wanted)
                names[name] = wanted
        return Admitted(names, rejected, memory)

    def admit_all(self, command: Reconnect, starts: Mapping[str, object]) -> Steps[int]:
        """Return the memory of a reconnect's patterns: all are admitted, or none.

        Raises CommandError.
        """
        maximum = self.max_patterns
        patterns = self._client.subscriber.patterns.union(starts)
        if len(patterns) > maximum:
            raise _rejected(
                command,
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"at most {maximum} subscriptions per connection",
            )
        missing: list[str] = []
        memory = REPLAY_BYTES
        for count, pattern in enumerate(starts, 1):
            missing += self._client.grant.missing([pattern])
            memory += self._memory_of([pattern])
            if not count % STEP_ITEMS:
                yield
        if missing:
            raise _rejected(command, ErrorCode.FORBIDDEN, not_granted(missing))
        if self._limits.room(patterns) < 0:
            raise _rejected(command, ErrorCode.TOO_MANY_SUBSCRIPTIONS, self._limits.no_room)
        return memory

    def options(self, command: Subscribe | Resume) -> SubscriptionOptions:
        """Return the options of a command. Raises CommandError if too many filters are in use.

        Equal filters share one object.
        """
        where = command.where
        if where is None:
            return SubscriptionOptions.of(command.max_rate)
        own = (self._client.subscriber.options or {}).values()
        filters = {option.where for option in own if option.where is not None} | {where}
        if len(filters) > self._limits.filters:
            raise CommandError(
                ErrorCode.TOO_MANY_FILTERS,
                f"data.where: at most {self._limits.filters} different filters per connection",
                command.id,
            )
        registry = self._hub.filters
        shared = registry.share(where)
        if shared is None:
            message = f"data.where: the server has {registry.maximum} different filters in use"
            raise unavailable(command, ErrorCode.TOO_MANY_FILTERS, message)
        return SubscriptionOptions.of(command.max_rate, shared)

    def spend(self, command: StartCommand, size: int) -> None:
        """Charge the memory of a command, in bytes. Raises CommandError."""
        if not self._limits.take(size):
            raise unavailable(command, ErrorCode.NOT_AVAILABLE, _NO_MEMORY)

    def spend_waiting(self, command: StartCommand) -> None:
        """Charge the memory of a waiting command. Raises CommandError."""
        self.spend(command, waiting_bytes(command))

    def _memory_of(self, patterns: Collection[str]) -> int:
        own = self._client.subscriber.patterns
        new = [pattern for pattern in patterns if pattern not in own]
        return _memory_of_patterns(new, self._hub.index)

    def _memory_of_options(self, patterns: Collection[str]) -> int:
        """Return the memory of rates and filters, in bytes; existing ones are replaced."""
        own = self._client.subscriber.options or {}
        return _OPTIONS_BYTES * sum(pattern not in own for pattern in patterns)


def _rejected(command: Reconnect, code: ErrorCode, message: str) -> CommandError:
    return CommandError(code, message, command.id, command="reconnect")


def unavailable(command: StartCommand, code: ErrorCode, message: str) -> CommandError:
    """Return the error for a valid command that cannot be executed; reconnect has its own type."""
    kind = "reconnect" if isinstance(command, Reconnect) else None
    return CommandError(code, message, command.id, kind, retry=True, retry_ms=retry_ms())


def patterns_in(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the patterns of some names; duplicates are kept."""
    return [pattern for patterns in names.values() for pattern in patterns]


def _memory_of_patterns(patterns: Collection[str], index: SubscriptionIndex) -> int:
    """Return the memory of new patterns of a connection, in bytes.

    A pattern with a subscriber shares its text.
    """
    return sum(
        _PATTERN_BYTES if pattern in index else _NEW_PATTERN_BYTES + len(pattern)
        for pattern in patterns
    )


def _size_of_patterns(patterns: Collection[str]) -> int:
    """Return their length in UTF-8."""
    return sum(len(pattern) if pattern.isascii() else len(pattern.encode()) for pattern in patterns)
