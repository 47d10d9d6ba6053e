"""Decides which patterns of a command are admitted: granted, within limits and memory.

All checks happen before any change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from odin_ws.auth.grants import not_granted
from odin_ws.handshake.retry_after import retry_ms
from odin_ws.hub import Hub, SubscriptionOptions
from odin_ws.protocol.commands import Reconnect, Resume, Subscribe, size_of
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.selection import RejectedName, Selection
from odin_ws.session.deferred_commands import StartCommand
from odin_ws.session.subscriber_connection import SubscriberConnection
from odin_ws.session.subscription_limits import (
    REPLAY_BYTES,
    SubscriptionLimits,
    memory_of_patterns,
    size_of_patterns,
)
from odin_ws.steps import STEP_ITEMS, Steps

__all__ = ["Admitted", "Names", "SubscriptionAdmission", "patterns_in", "unavailable"]

_NO_MEMORY: Final = "the server is short of memory; nothing has changed"

# Names as the client wrote them, with their patterns.
Names = dict[str, Sequence[str]]


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

    def admit(self, selection: Selection) -> Steps[Admitted]:
        """Return which names are granted and within the limits."""
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
            elif (size := size_of_patterns(new)) > room:
                message = self._limits.no_room
                rejected.append(RejectedName(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message))
            else:
                room -= size
                for begin in range(0, len(wanted), STEP_ITEMS):
                    memory += self._memory_of(wanted[begin : begin + STEP_ITEMS])
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
        filters = {one.where for one in own if one.where is not None} | {where}
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
        if not self._limits.take_waiting(size_of(command)):
            raise unavailable(command, ErrorCode.NOT_AVAILABLE, _NO_MEMORY)

    def _memory_of(self, patterns: Collection[str]) -> int:
        own = self._client.subscriber.patterns
        new = [one for one in patterns if one not in own]
        return memory_of_patterns(new, self._hub.index)


def _rejected(command: Reconnect, code: ErrorCode, message: str) -> CommandError:
    return CommandError(code, message, command.id, command="reconnect")


def unavailable(command: StartCommand, code: ErrorCode, message: str) -> CommandError:
    """Return the error for a valid command that cannot be executed; reconnect has its own type."""
    kind = "reconnect" if isinstance(command, Reconnect) else None
    return CommandError(code, message, command.id, kind, retry=True, retry_ms=retry_ms())


def patterns_in(names: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the patterns of some names; duplicates are kept."""
    return [pattern for patterns in names.values() for pattern in patterns]
