"""Incremental fetch sessions with one broker (KIP-227). No I/O.

A request lists only partitions whose offset has changed since the last one, and its response only
partitions with news. So the cost of a fetch depends on its records, not on all partitions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import attrs

from odin_ws.kafka.protocol import FetchFrom
from odin_ws.records import TopicPartition

__all__ = ["FetchSession", "SessionRequest"]

# KIP-227: the epoch of a request that begins a session; the broker chooses the session id, 0 if it
# keeps no sessions.
_FIRST_EPOCH: Final = 0
_NO_SESSION: Final = 0
_LAST_EPOCH: Final = (1 << 31) - 1

# Error codes for a session that the broker has forgotten or counts differently
# (FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH), or that has other topic ids
# (FETCH_SESSION_TOPIC_ID_ERROR).
_SESSION_ERRORS: Final = {70, 71, 106}


@attrs.frozen
class SessionRequest:
    """The partitions of one fetch: `changed` are added or moved, `gone` removed."""

    session: int
    epoch: int
    changed: Mapping[TopicPartition, FetchFrom]
    gone: frozenset[TopicPartition]


class FetchSession:
    """The state of one fetch session. Requests and responses alternate."""

    def __init__(self) -> None:
        self._session = _NO_SESSION
        self._epoch = _FIRST_EPOCH
        self._known: dict[TopicPartition, FetchFrom] = {}
        self._requested: dict[TopicPartition, FetchFrom] = {}
        self._topic_ids: Mapping[str, str | None] = {}

    def request(
        self,
        wanted: Mapping[TopicPartition, FetchFrom],
        topic_ids: Mapping[str, str | None],
        moved: Collection[TopicPartition] | None = None,
    ) -> SessionRequest:
        """Return the next request, to fetch each partition from its offset.

        `moved`: the wanted partitions that may differ from the last request; None: any.
        If topic ids change, a new session begins: the old one would mix two logs.
        """
        if topic_ids != self._topic_ids:
            self.forget()
            self._topic_ids = dict(topic_ids)
        known = self._known
        if moved is None or len(known) != len(wanted):
            moved = wanted
        self._requested = dict(wanted)
        return SessionRequest(
            self._session,
            self._epoch,
            {key: where for key in moved if known.get(key) != (where := wanted[key])},
            frozenset(known.keys() - wanted.keys()),
        )

    @property
    def requested(self) -> Mapping[TopicPartition, FetchFrom]:
        """The fetch position of each partition in the outstanding request."""
        return self._requested

    def receive(self, error: int, session: int) -> bool:
        """Apply error code and session id of a response; returns whether it has data.

        If the broker has lost the session, the next request begins another. If the broker keeps no
        sessions, each request lists every partition.
        """
        if error in _SESSION_ERRORS:
            self.forget()
            return False
        if session == _NO_SESSION:
            self.forget()
        else:
            self._session = session
            self._epoch = self._epoch + 1 if self._epoch < _LAST_EPOCH else 1
            self._known = self._requested
        return True

    def forget(self) -> None:
        """Begin a new session: a response or the connection was lost."""
        self._session, self._epoch, self._known = _NO_SESSION, _FIRST_EPOCH, {}
