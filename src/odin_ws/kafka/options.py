"""The options of a Kafka source and log reader."""

from __future__ import annotations

from typing import Any

import attrs

from odin_ws.kafka.security import KafkaSecurity

__all__ = ["KafkaOptions"]


@attrs.frozen
class KafkaOptions:
    """The options for connecting to Kafka and reading it."""

    security: KafkaSecurity
    """Addresses and credentials."""
    group: str | None
    """The consumer group to join; None to read every partition. A member of a group reads no
    history: it continues at the group's offsets."""
    max_wait: float
    """Seconds a broker may wait for records before it responds to a fetch."""
    slot: float
    """Seconds between two fetches from a broker while records come."""
    rate: float
    """Limit of records per second; 0 for none."""
    probe: float
    """Seconds between requests for layout and lag, their timeout, and how long a problem may last
    before it is shown."""
    history_seconds: float
    """Age limit of the history that is read at the start; 0 for no history."""
    history_records: int
    """Limit of records in that history; 0 for no history."""
    header_names: frozenset[str] = frozenset()
    """The headers that records keep."""

    def client(self) -> dict[str, Any]:
        """Return the arguments of every aiokafka client. Raises OSError."""
        # aiokafka's default of 100 ms logs 40 lines per second while a broker is down.
        return self.security.client() | {"retry_backoff_ms": 500}
