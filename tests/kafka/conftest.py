"""What the tests of this folder share."""

from __future__ import annotations

import pytest

from tests.kafka.log_readers import (
    KEY,
    OTHER,
    TOPIC,
)
from tests.kafka.memory_cluster import MemoryCluster, StoredLog


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """Two partitions, led by brokers 0 and 1, that the reader's client reads."""
    logs = {KEY: StoredLog(leader=0), OTHER: StoredLog(leader=1)}
    cluster = MemoryCluster(logs, {TOPIC: f"{1:032x}"})
    monkeypatch.setattr("odin_ws.kafka.log_reader.KafkaClient", cluster)
    return cluster
