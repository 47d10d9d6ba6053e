"""Incremental fetch sessions with one broker (KIP-227). No I/O.

A fetch names only the partitions whose offset has changed since the last one, and its answer has
only those that have something new. So a fetch costs what it brings, and not what could come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from odin_ws.kafka.protocol import FetchFrom
from odin_ws.records import TopicPartition

__all__ = ["FetchSession", "SessionRequest"]

# KIP-227: the epoch of a request that begins a session; the session's number is the broker's to
# choose, and 0 where it keeps none.
_FIRST_EPOCH: Final = 0
_NO_SESSION: Final = 0
_LAST_EPOCH: Final = (1 << 31) - 1

# Kafka's codes for a session that the broker has forgotten or counts otherwise
# (FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH), and for one that names topics by other
# ids (FETCH_SESSION_TOPIC_ID_ERROR).
_SESSION_ERRORS: Final = {70, 71, 106}


@attrs.frozen
class SessionRequest:
    """The partitions of one fetch: `changed` are read from now on, `gone` no more."""

    session: int
    epoch: int
    changed: Mapping[TopicPartition, FetchFrom]
    gone: frozenset[TopicPartition]


class FetchSession:
    """Our reading as one broker knows it. Requests and their answers alternate."""

    def __init__(self) -> None:
        self._session = _NO_SESSION
        self._epoch = _FIRST_EPOCH
        self._known: dict[TopicPartition, FetchFrom] = {}
        self._asked: dict[TopicPartition, FetchFrom] = {}
        self._topic_ids: Mapping[str, str | None] = {}

    def request(
        self, wanted: Mapping[TopicPartition, FetchFrom], topic_ids: Mapping[str, str | None]
    ) -> SessionRequest:
        """The next request, to read each partition from its offset.

        A session of topics with other ids would mix two logs: it is left, and a new one begun.
        """
        if topic_ids != self._topic_ids:
            self.forget()
            self._topic_ids = dict(topic_ids)
        known = self._known
        self._asked = dict(wanted)
        return SessionRequest(
            self._session,
            self._epoch,
            {key: where for key, where in wanted.items() if known.get(key) != where},
            frozenset(known.keys() - wanted.keys()),
        )

    @property
    def asked(self) -> Mapping[TopicPartition, FetchFrom]:
        """The place of each partition in the request that is answered."""
        return self._asked

    def answered(self, error: int, session: int) -> bool:
        """Take the answer's error code and session; whether it holds anything.

        If the broker has lost the session, the next request begins another. If the broker keeps
        no sessions, each request names every partition.
        """
        if error in _SESSION_ERRORS:
            self.forget()
            return False
        if session == _NO_SESSION:
            self.forget()
        else:
            self._session = session
            self._epoch = self._epoch + 1 if self._epoch < _LAST_EPOCH else 1
            self._known = self._asked
        return True

    def forget(self) -> None:
        """Begin anew: an answer was lost, or the connection."""
        self._session, self._epoch, self._known = _NO_SESSION, _FIRST_EPOCH, {}
