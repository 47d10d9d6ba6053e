"""The brokers that lead our partitions: aiokafka's client, as fetches need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import aiokafka
import attrs
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.protocol.api import Request
from aiokafka.protocol.fetch import FetchRequest_v11

from odin_ws.kafka.aio import call_aiokafka
from odin_ws.kafka.fetch_session import SessionRequest
from odin_ws.records import TopicPartition

__all__ = ["FETCH_BYTES", "PARTITION_BYTES", "Brokers", "Fetched", "FetchedPartition", "Patience"]

# Of one fetch, and of one partition in it: enough for 100,000 records of 400 bytes a second in
# slots of 50 ms. A partition's records are read at once, which takes the loop for some 5 ms.
FETCH_BYTES: Final = 4 << 20
PARTITION_BYTES: Final = 1 << 20

_ANY_REPLICA: Final = -1
_NO_EPOCH: Final = -1
_NO_LOG_START: Final = -1
_NO_LEADER: Final = -1
_OUR_RACK: Final = ""


@attrs.frozen
class Patience:
    """A broker answers as soon as it has `at_least` so many bytes, or after so many seconds."""

    at_least: int
    seconds: float


@attrs.frozen
class FetchedPartition:
    """What a fetch brought of one partition; `error` is Kafka's code, 0 for none."""

    key: TopicPartition
    error: int
    aborted: Sequence[Any]
    data: bytes


@attrs.frozen
class Fetched:
    """The answer to a fetch; `error` is Kafka's code, 0 for none."""

    error: int
    session: int
    partitions: Sequence[FetchedPartition]


class Brokers:
    """All brokers, through a client that was started."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    def leader(self, key: TopicPartition) -> int | None:
        """The broker that a partition is read from, None while there is none."""
        leader = self._client.cluster.leader_for_partition(aiokafka.TopicPartition(*key))
        return None if leader == _NO_LEADER else leader

    async def look_again(self) -> None:
        """Ask who leads what; bounded by the client's request time-out."""
        await call_aiokafka(self._update_metadata)

    async def _update_metadata(self) -> None:
        await self._client.force_metadata_update()

    async def fetch(self, node: int, request: SessionRequest, patience: Patience) -> Fetched:
        """Fetch; the broker answers as `patience` says. Raises KafkaError."""
        response = await call_aiokafka(self._client.send, node, _Fetch(patience, request))
        partitions = [
            FetchedPartition(TopicPartition(topic, partition), error, aborted or (), data or b"")
            for topic, several in response.topics
            for partition, error, _high, _stable, _start, aborted, _replica, data in several
        ]
        return Fetched(response.error_code, response.session_id, partitions)


class _Fetch(Request[FetchRequest_v11]):  # type: ignore[misc]  # aiokafka is untyped
    """A fetch within a session, for aiokafka's client; version 11 came with Kafka 2.3."""

    API_KEY = FetchRequest_v11.API_KEY

    def __init__(self, patience: Patience, request: SessionRequest) -> None:
        self._patience = patience
        self._request = request

    def build(self, request_struct_class: type[FetchRequest_v11]) -> FetchRequest_v11:
        request = self._request
        changed: dict[str, list[tuple[int, ...]]] = {}
        for (topic, partition), offset in request.changed.items():
            changed.setdefault(topic, []).append(
                (partition, _NO_EPOCH, offset, _NO_LOG_START, PARTITION_BYTES)
            )
        gone: dict[str, list[int]] = {}
        for topic, partition in request.gone:
            gone.setdefault(topic, []).append(partition)
        return request_struct_class(
            _ANY_REPLICA,
            round(self._patience.seconds * 1000),
            self._patience.at_least,
            FETCH_BYTES,
            READ_COMMITTED,
            request.session,
            request.epoch,
            list(changed.items()),
            list(gone.items()),
            _OUR_RACK,
        )
