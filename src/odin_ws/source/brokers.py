"""The brokers that lead our partitions: aiokafka's client, as fetches need it."""

from __future__ import annotations

from typing import Final

import aiokafka
from aiokafka.client import AIOKafkaClient

from odin_ws.records import TopicPartition
from odin_ws.source.aio import call_aiokafka
from odin_ws.source.fetch_session import SessionRequest
from odin_ws.source.fetch_wire import Fetch, Fetched, Patience

__all__ = ["Brokers"]

_NO_LEADER: Final = -1


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
        fetched: Fetched = await call_aiokafka(self._client.send, node, Fetch(request, patience))
        return fetched
