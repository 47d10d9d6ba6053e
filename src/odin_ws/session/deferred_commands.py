"""Commands that wait until a client's replay has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

from odin_ws.protocol.commands import Reconnect, Resend, Resume, Subscribe, patterns_of, size_of
from odin_ws.steps import Steps

__all__ = ["MAX_WAITING", "MAX_WAITING_BYTES", "DeferredCommands", "StartCommand", "waiting_bytes"]

# Limit of waiting commands. If several wait, the second limit applies to their memory in total:
# 4,096 patterns, positions and rejections.
MAX_WAITING: Final = 100
MAX_WAITING_BYTES: Final = 4096 * 200

# Memory of a pattern, position or rejection, and of a command besides these.
_ITEM_BYTES: Final = 200

# The commands that start deliveries.
StartCommand = Subscribe | Resume | Reconnect | Resend


def waiting_bytes(command: StartCommand) -> int:
    """Return the memory of a waiting command, in bytes."""
    size = _ITEM_BYTES * size_of(command)
    match command:
        case Subscribe(where=where) | Resume(where=where) if where is not None:
            size += where.memory
        case _:
            pass
    return size + _ITEM_BYTES


class DeferredCommands:
    """A bounded queue of commands."""

    __slots__ = ("_commands",)

    def __init__(self) -> None:
        self._commands: deque[StartCommand] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands)

    def admits(self, command: StartCommand) -> bool:
        """Return whether there is room for a command."""
        size = sum(map(waiting_bytes, self._commands)) + waiting_bytes(command)
        count = len(self._commands)
        return count < MAX_WAITING and (count == 0 or size <= MAX_WAITING_BYTES)

    def append(self, command: StartCommand) -> None:
        """Add a command."""
        self._commands.append(command)

    def take(self) -> StartCommand:
        """Return the oldest command."""
        return self._commands.popleft()

    def drop(self, patterns: Collection[str]) -> Steps[AbstractSet[str]]:
        """Remove patterns from the commands; returns the removed ones.

        Commands that are taken between two steps stay unchanged.
        """
        dropped: set[str] = set()
        names = frozenset(patterns)
        for command in list(self._commands):
            if named := names.intersection(patterns_of(command)):
                for index, waiting in enumerate(self._commands):
                    if waiting is command:
                        self._commands[index] = command.without(named)
                        dropped |= named
                        break
            yield
        return dropped
