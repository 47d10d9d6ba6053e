"""The items that the client yields: messages, acks, feed changes, disconnects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from odin_ws_client.core.batch_text import BatchText
from odin_ws_client.core.errors import RejectedName

__all__ = [
    "Checkpoint",
    "Disconnected",
    "FeedChange",
    "Ids",
    "Item",
    "Lost",
    "Message",
    "Positions",
    "Resumed",
    "Subscribed",
    "Unsubscribed",
]

# `{topic: {partition: offset}}`
Positions = Mapping[str, Mapping[int, int]]

# `{topic: id}`
Ids = Mapping[str, str]

# `{topic: {partition: (first, last)}}`, both included.
Lost = Mapping[str, Mapping[int, tuple[int, int]]]


@attrs.define(frozen=False, eq=False)  # thousands a second: a frozen one takes four times as long
class Message:
    """One Kafka record. `data` is its value.

    `timestamp`: epoch ms. `seq` counts the messages of a connection; `skipped` of them the server
    left out before this one, because newer ones took their place. `replay`: from before the
    connection was live. `ahead`: an older record of the partition is held back by a rate, so
    positions stay before that. `headers`: those that the server passes on.
    """

    channel: str
    topic: str
    partition: int
    offset: int
    timestamp: int
    seq: int
    replay: bool
    skipped: int
    data: Any
    _source: bytes | bytearray | BatchText = attrs.field(repr=False)
    ahead: bool = False
    headers: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """The message as JSON text, with the value as the publisher wrote it."""
        if isinstance(self._source, BatchText):
            return self._source.message(self.seq, self.skipped)
        return self._source.decode()


@attrs.frozen
class Subscribed:
    """A subscription has taken effect, but for the names in `rejected`.

    `positions`: what follows comes after these. `ids`: of their topics. `replayed`: how many
    messages from before that follow, None where that is not known yet.
    """

    names: tuple[str, ...]
    rejected: tuple[RejectedName, ...]
    positions: Positions
    ids: Ids = attrs.field(factory=dict)
    replayed: int | None = 0


@attrs.frozen
class Resumed:
    """The client is back where it was, but for what is `lost`: then `recovered` is false.

    `replayed`: how many of the messages that follow are old, None where that is not known yet.
    A loss that is found out later comes as one of these too, without names. `reason`: why
    something is lost, empty otherwise. `seconds_away`: None for such a loss, and where the client
    was opened with positions. `positions`: those that this has moved; `ids`: of their topics.
    """

    recovered: bool
    replayed: int | None
    lost: Lost
    reason: str
    seconds_away: float | None
    names: tuple[str, ...]
    rejected: tuple[RejectedName, ...]
    positions: Positions
    ids: Ids = attrs.field(factory=dict)


@attrs.frozen
class Unsubscribed:
    """These names were unsubscribed: nothing comes of them.

    `rejected`: those that were not subscribed. `forced`: a new token does not grant the names.
    """

    names: tuple[str, ...]
    rejected: tuple[RejectedName, ...] = ()
    forced: bool = False


@attrs.frozen
class Checkpoint:
    """Everything up to these positions has come. Only moves the client's own.

    `holds`: until the next one nothing else moves them, for a replay runs beside live messages.
    `topics`: those that are followed, if others are to be forgotten.
    """

    positions: Positions
    ids: Ids = attrs.field(factory=dict)
    holds: bool = False
    topics: frozenset[str] | None = None


@attrs.frozen
class FeedChange:
    """The server has lost its Kafka ("stalled") or has it back ("live"), `since` (epoch ms)."""

    status: str
    since: int | None


@attrs.frozen
class Disconnected:
    """A connection has ended, or one did not come about; 1006 stands for no close frame.

    `retry_in`: seconds until the next attempt; None where there is none.
    """

    code: int
    reason: str
    retry_in: float | None


Item = Message | Subscribed | Unsubscribed | Resumed | FeedChange | Disconnected
