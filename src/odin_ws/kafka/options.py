"""The options of a Kafka source and log reader."""

from __future__ import annotations

from typing import Any

import attrs

from odin_ws.kafka.security import KafkaSecurity

__all__ = ["KafkaOptions"]


@attrs.frozen
class KafkaOptions:
    """How to reach Kafka (`security`) and read it.

    `group`: the consumer group to join, None to read every partition. `max_wait`: seconds the
    broker may hold an idle fetch. `slot`: seconds between two fetches from a broker while records
    come. `rate`: records per second at most, 0 for any. `probe`: seconds between two questions for
    the layout and the lag, the bound on one request, and how long trouble may last before it is
    shown. `history_seconds` and `history_records`: what was published before the start is read from
    so long ago, and no more of it; 0 in either for none. A member of a group reads none: it goes on
    where the group stopped.
    """

    security: KafkaSecurity
    group: str | None
    max_wait: float
    slot: float
    rate: float
    probe: float
    history_seconds: float
    history_records: int

    def client(self) -> dict[str, Any]:
        """The arguments every aiokafka client takes. Raises OSError."""
        # aiokafka's default of 100 ms means 40 log lines a second while a broker is away.
        return self.security.client() | {"retry_backoff_ms": 500}
