"""Kafka clients of brokers on loopback."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.protocol import (
    LATEST,
    ListOffsetsRequest,
)
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.records import TopicPartition
from odin_ws.testing.ports import LOOPBACK
from tests.kafka.loopback_broker import (
    LoopbackBroker,
)

__all__ = [
    "END",
    "KEY",
    "SECONDS",
    "SOON",
    "access_to",
    "client_of",
    "metadata_fails",
    "unused_port",
]


KEY = TopicPartition("odin.trades", 0)


END = ListOffsetsRequest({KEY: LATEST})


# For brokers that answer, and for those that do not.
SECONDS = 10.0


SOON = 0.4


def access_to(*brokers: LoopbackBroker | str) -> KafkaSecurity:
    """KAFKA_BROKERS."""
    return KafkaSecurity(
        tuple(broker if isinstance(broker, str) else broker.address for broker in brokers)
    )


@asynccontextmanager
async def client_of(
    *brokers: LoopbackBroker | str, seconds: float = SECONDS
) -> AsyncIterator[KafkaClient]:
    """A client that runs for the length of the block."""
    client = KafkaClient(access_to(*brokers), seconds)
    async with client.running():
        yield client


def unused_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        port: int = one.getsockname()[1]
        return port


async def metadata_fails(security: KafkaSecurity, match: str, seconds: float = SECONDS) -> None:
    """Check that a client is given no metadata, and that the reason has these words."""
    client = KafkaClient(security, seconds)
    async with client.running():
        with pytest.raises(KafkaUnavailable, match=match):
            await client.metadata([])
