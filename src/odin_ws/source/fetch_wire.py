"""Fetches and their answers as bytes: Kafka's Fetch in version 11, which came with Kafka 2.3.

aiokafka makes and reads them from schemas, field by field: with 100 fetches a second for 1,000
subscribers that was a tenth of the server's CPU (docs/design/performance.md). This takes its place
in aiokafka's client; the tests hold both against each other.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812 -- it is an exception
from typing import Any, Final

import attrs
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11

from odin_ws.records import TopicPartition
from odin_ws.source.fetch_session import SessionRequest

__all__ = [
    "FETCH_BYTES",
    "PARTITION_BYTES",
    "Fetch",
    "Fetched",
    "FetchedPartition",
    "Patience",
    "read_answer",
]

# Of one fetch, and of one partition in it: enough for 100,000 records of 400 bytes a second in
# slots of 50 ms. A partition's records are read at once, which takes the loop for some 5 ms.
FETCH_BYTES: Final = 4 << 20
PARTITION_BYTES: Final = 1 << 20

_ANY_REPLICA: Final = -1
_NO_EPOCH: Final = -1
_NO_LOG_START: Final = -1
_NULL: Final = -1

_COUNT: Final = Struct(">i")
_LENGTH: Final = Struct(">h")
# Replica, milliseconds to wait, least and most bytes, isolation, session, epoch.
_REQUEST: Final = Struct(">iiiibii")
# Partition, leader's epoch, offset, start of a follower's log, most bytes.
_ASKED: Final = Struct(">iiqqi")
# Milliseconds of throttling, error, session.
_ANSWER: Final = Struct(">ihi")
# Partition, error, high watermark, last stable offset, start of the log.
_PARTITION: Final = Struct(">ihqqq")
# Producer, first offset.
_ABORTED: Final = Struct(">qq")


@attrs.frozen
class Patience:
    """A broker answers as soon as it has `at_least` so many bytes, or after so many seconds."""

    at_least: int
    seconds: float


@attrs.frozen
class FetchedPartition:
    """What a fetch brought of one partition; `error` is Kafka's code, 0 for none.

    `aborted`: producer and first offset of each transaction in it that was taken back.
    """

    key: TopicPartition
    error: int
    aborted: Sequence[tuple[int, int]]
    data: bytes


@attrs.frozen
class Fetched:
    """The answer to a fetch; `error` is Kafka's code, 0 for none."""

    error: int
    session: int
    partitions: Sequence[FetchedPartition]


class _Answer(FetchResponse_v11):  # type: ignore[misc]  # aiokafka is untyped
    """Read as `Fetched`."""

    @classmethod
    def decode(cls, data: io.BytesIO) -> Fetched:
        return read_answer(data.getbuffer()[data.tell() :])


class _Written(FetchRequest_v11):  # type: ignore[misc]  # aiokafka is untyped
    """A request that is bytes already."""

    RESPONSE_TYPE = _Answer

    def __init__(self, written: bytes) -> None:
        self._written = written

    def encode(self) -> bytes:
        return self._written

    def __repr__(self) -> str:
        return f"Fetch({len(self._written)} bytes)"


class Fetch(Request[_Written]):  # type: ignore[misc]  # aiokafka is untyped
    """A fetch within a session, for aiokafka's client, which returns a `Fetched` for it."""

    API_KEY = FetchRequest_v11.API_KEY

    def __init__(self, request: SessionRequest, patience: Patience) -> None:
        self._request = request
        self._patience = patience

    def build(self, request_struct_class: type[_Written]) -> _Written:
        """Called by aiokafka, where the broker knows version 11."""
        request, patience = self._request, self._patience
        parts = [
            _REQUEST.pack(
                _ANY_REPLICA,
                round(patience.seconds * 1000),
                patience.at_least,
                FETCH_BYTES,
                READ_COMMITTED,
                request.session,
                request.epoch,
            )
        ]
        _write_topics(
            parts,
            {
                key: _ASKED.pack(key.partition, _NO_EPOCH, offset, _NO_LOG_START, PARTITION_BYTES)
                for key, offset in request.changed.items()
            },
        )
        _write_topics(parts, {key: _COUNT.pack(key.partition) for key in request.gone})
        # We are in no rack.
        parts.append(_LENGTH.pack(0))
        return request_struct_class(b"".join(parts))


def _write_topics(parts: list[bytes], entries: Mapping[TopicPartition, bytes]) -> None:
    """An array of topics, each with the array of its partitions' entries."""
    topics: dict[str, list[bytes]] = {}
    for key, entry in entries.items():
        topics.setdefault(key.topic, []).append(entry)
    parts.append(_COUNT.pack(len(topics)))
    for topic, several in topics.items():
        name = topic.encode()
        parts += (_LENGTH.pack(len(name)), name, _COUNT.pack(len(several)), *several)


def read_answer(data: memoryview) -> Fetched:
    """What a broker has answered. Raises ValueError where that makes no sense."""
    try:
        return _Reader(data).answer()
    except StructError as error:
        raise ValueError(f"an answer of {len(data)} bytes has no end") from error


class _Reader:
    """Reads an answer from its beginning to its end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def answer(self) -> Fetched:
        _throttled, error, session = self._take(_ANSWER)
        partitions: list[FetchedPartition] = []
        for _ in range(self._count()):
            topic = str(self._bytes(self._take(_LENGTH)[0]), "utf-8")
            partitions += [self._partition(topic) for _ in range(self._count())]
        return Fetched(error, session, partitions)

    def _partition(self, topic: str) -> FetchedPartition:
        partition, error, _high, _stable, _start = self._take(_PARTITION)
        aborted = [self._take(_ABORTED) for _ in range(self._count())]
        _preferred_replica = self._take(_COUNT)
        data = bytes(self._bytes(self._take(_COUNT)[0]))
        return FetchedPartition(TopicPartition(topic, partition), error, aborted, data)

    def _take(self, what: Struct) -> tuple[Any, ...]:
        found = what.unpack_from(self._data, self._at)
        self._at += what.size
        return found

    def _count(self) -> int:
        """The length of an array; of one that is not there 0."""
        count: int = self._take(_COUNT)[0]
        return 0 if count == _NULL else count

    def _bytes(self, size: int) -> memoryview:
        begin, self._at = self._at, self._at + max(0, size)
        if size < _NULL or self._at > len(self._data):
            raise ValueError(f"{size} bytes are said to follow {begin} of {len(self._data)}")
        return self._data[begin : self._at]
