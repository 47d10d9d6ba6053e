"""The options of a Kafka source and log reader."""

from __future__ import annotations

from typing import Any

import attrs

from odin_ws.kafka.security import KafkaSecurity

__all__ = ["KafkaOptions"]


@attrs.frozen
class KafkaOptions:
    """How to reach Kafka (`security`) and read it.

    `group`: the consumer group to join, None to read every partition. `max_wait`: seconds a broker
    may wait for records before it responds to a fetch. `slot`: seconds between two fetches from a
    broker while records come. `rate`: limit of records per second, 0 for none. `probe`: seconds
    between requests for layout and lag, their timeout, and how long a problem may last before it is
    shown. `history_seconds`, `history_records`: limits of the history that is read at the start; 0
    in either for none. A member of a group reads no history: it continues at the group's offsets.
    `header_names`: the headers that records keep.
    """

    security: KafkaSecurity
    group: str | None
    max_wait: float
    slot: float
    rate: float
    probe: float
    history_seconds: float
    history_records: int
    header_names: frozenset[str] = frozenset()

    def client(self) -> dict[str, Any]:
        """Return the arguments of every aiokafka client. Raises OSError."""
        # aiokafka's default of 100 ms logs 40 lines per second while a broker is down.
        return self.security.client() | {"retry_backoff_ms": 500}
