"""The commands of clients, after parsing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum

import attrs

from odin_ws.protocol.filters import Filter
from odin_ws.protocol.selection import Selection
from odin_ws.protocol.wire_format import Frames
from odin_ws.records import TopicPartition

__all__ = [
    "Auth",
    "Command",
    "CommandId",
    "Delivery",
    "Heartbeat",
    "Reconnect",
    "Resend",
    "Resume",
    "Subscribe",
    "Unsubscribe",
    "patterns_of",
    "size_of",
]

CommandId = str | int | None


class Delivery(StrEnum):
    """The messages for a connection that is behind: all, or the newest of each channel."""

    ALL = "all"
    LATEST = "latest"


@attrs.frozen
class Subscribe:
    """Start sending the messages of `selection`."""

    id: CommandId
    selection: Selection
    positions: bool = False
    """Report the offsets after which the subscription is live."""
    snapshot: bool = False
    """Begin with the last message of each channel."""
    since_ms: int | None = None
    """Begin with the messages from this time on, epoch ms."""
    delivery: Delivery | None = None
    """None keeps the connection's."""
    frames: Frames | None = None
    """None keeps the connection's."""
    max_rate: float | None = None
    """Limit of messages per second and channel; None for all."""
    where: Filter | None = None
    """Send only records that match this filter; None for all."""

    def without(self, patterns: Collection[str]) -> Subscribe:
        """Return the command without patterns that were unsubscribed while it waited."""
        return attrs.evolve(self, selection=self.selection.without(patterns))


@attrs.frozen
class Resume:
    """Send the messages of `selection` after `positions`."""

    id: CommandId
    selection: Selection
    positions: Mapping[TopicPartition, int]
    delivery: Delivery | None = None
    topics: frozenset[str] = frozenset()
    """The topics in the positions, with or without partitions."""
    ids: Mapping[str, str] = attrs.field(factory=dict)
    """The ids of these topics, as the client knows them."""
    snapshot: bool = False
    """Send also the last message of each channel without replayed messages."""
    frames: Frames | None = None
    max_rate: float | None = None
    """As in Subscribe."""
    where: Filter | None = None
    """As in Subscribe."""

    def without(self, patterns: Collection[str]) -> Resume:
        """Return the command without patterns that were unsubscribed while it waited."""
        return attrs.evolve(self, selection=self.selection.without(patterns))


@attrs.frozen
class Reconnect:
    """The SDK's resume: channels with the positions of their last messages.

    `last_offsets`: version 0's, by topic; None if the client sent `last_pos`.
    """

    id: CommandId
    last_positions: Mapping[str, Mapping[TopicPartition, int]]
    last_offsets: Mapping[str, int] | None = None

    def without(self, patterns: Collection[str]) -> Reconnect:
        """Return the command without channels that were unsubscribed while it waited.

        A topic of `last_offsets` stands for all its channels, and is kept.
        """
        remaining = {name: at for name, at in self.last_positions.items() if name not in patterns}
        return attrs.evolve(self, last_positions=remaining)


@attrs.frozen
class Resend:
    """`replay`: resend the messages with these numbers; `last` is None for "to the newest"."""

    id: CommandId
    first: int
    last: int | None

    def without(self, _patterns: Collection[str]) -> Resend:
        """Return the command itself: it has no patterns."""
        return self


@attrs.frozen
class Unsubscribe:
    """Stop sending the messages of `selection`."""

    id: CommandId
    selection: Selection


@attrs.frozen
class Auth:
    """Continue with a new JWT."""

    id: CommandId
    token: str = attrs.field(repr=False)


@attrs.frozen
class Heartbeat:
    """Request a `pong`."""

    id: CommandId


Command = Subscribe | Resume | Reconnect | Resend | Unsubscribe | Auth | Heartbeat


def size_of(command: Command) -> int:
    """Return the number of patterns, positions, rejections and comparisons of a command."""
    match command:
        case Resume():
            positions = len(command.positions) + len(command.ids)
            return command.selection.size + positions + _terms_of(command)
        case Subscribe():
            return command.selection.size + _terms_of(command)
        case Unsubscribe():
            return command.selection.size
        case Reconnect():
            return len(command.last_positions)
        case _:
            return 0


def _terms_of(command: Subscribe | Resume) -> int:
    return 0 if command.where is None else command.where.terms


def patterns_of(command: Subscribe | Resume | Reconnect | Resend) -> Iterator[str]:
    """Yield the patterns of a command."""
    match command:
        case Subscribe() | Resume():
            for patterns in command.selection.wanted.values():
                yield from patterns
        case Reconnect():
            yield from command.last_positions
        case Resend():
            pass
