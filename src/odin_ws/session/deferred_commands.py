"""Commands that wait until a client's replay has ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from typing import Final

from odin_ws.protocol.commands import Reconnect, Resend, Resume, Subscribe, patterns_of, size_of
from odin_ws.steps import Steps

__all__ = ["StartCommand", "WaitingCommands"]

# While a replay is under way, what would begin another waits for it: so many commands, and with
# several so many patterns, positions and rejections in all of them. Each is some 150 bytes.
_MAX_WAITING: Final = 100
_MAX_WAITING_SIZE: Final = 4096

# The commands that let something be sent.
StartCommand = Subscribe | Resume | Reconnect | Resend


class WaitingCommands:
    """A bounded queue of commands."""

    __slots__ = ("_commands",)

    def __init__(self) -> None:
        self._commands: deque[StartCommand] = deque()

    def __bool__(self) -> bool:
        return bool(self._commands)

    def admits(self, command: StartCommand) -> bool:
        """Whether there is room for a command."""
        size = sum(map(size_of, self._commands)) + size_of(command)
        count = len(self._commands)
        return count < _MAX_WAITING and (count == 0 or size <= _MAX_WAITING_SIZE)

    def append(self, command: StartCommand) -> None:
        """Let a command wait."""
        self._commands.append(command)

    def take(self) -> StartCommand:
        """The command that has waited longest."""
        return self._commands.popleft()

    def drop(self, patterns: Collection[str]) -> Steps[AbstractSet[str]]:
        """Take patterns out of the commands; returns those that were named there.

        Commands that are taken between two steps are left as they were.
        """
        dropped: set[str] = set()
        names = frozenset(patterns)
        for command in list(self._commands):
            if named := names.intersection(patterns_of(command)):
                for place, waiting in enumerate(self._commands):
                    if waiting is command:
                        self._commands[place] = command.without(named)
                        dropped |= named
                        break
            yield
        return dropped
