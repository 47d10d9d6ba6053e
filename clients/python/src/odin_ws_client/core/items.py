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
    """A subscription has taken effect, except for the names in `rejected`.

    `positions`: later messages come after these. `ids`: the ids of their topics. `replayed`: the
    number of replayed messages that follow, None if it is not known yet.
    """

    names: tuple[str, ...]
    rejected: tuple[RejectedName, ...]
    positions: Positions
    ids: Ids = attrs.field(factory=dict)
    replayed: int | None = 0


@attrs.frozen
class Resumed:
    """The client has resumed. If records are `lost`, `recovered` is false.

    `replayed`: the number of replayed messages that follow, None if it is not known yet. A loss
    that the server reports later is an item of this class too, without names. `reason`: why
    records are lost, empty otherwise. `seconds_away`: None for such a later loss, and if the client
    was opened with positions. `positions`: the changed positions; `ids`: the ids of their topics.
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
    """The names were unsubscribed: no more messages come from them.

    `rejected`: names that were not subscribed. `forced`: a new token does not grant the names.
    """

    names: tuple[str, ...]
    rejected: tuple[RejectedName, ...] = ()
    forced: bool = False


@attrs.frozen
class Checkpoint:
    """All records up to these positions have arrived; updates the client's positions.

    `holds`: until the next checkpoint nothing else updates them, because a replay runs beside live
    messages. `topics`: the followed topics, if the positions of others must be dropped.
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
