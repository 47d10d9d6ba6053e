"""Settings of Kafka: brokers, assignment, fetches, catalogue, dead letter topic."""

from __future__ import annotations

from pathlib import Path

import attrs

from odin_ws.settings.declaration import (
    BROKERS,
    FILE,
    HEADER_NAMES,
    MIB,
    TEXT,
    TOPIC,
    choice,
    integer,
    number,
    setting,
)

__all__ = ["KafkaSettings"]


@attrs.frozen(slots=False)  # several are bases of one class
class KafkaSettings:
    """See odin_ws.settings.Settings."""

    kafka_brokers: tuple[str, ...] = setting(
        "KAFKA_BROKERS", "localhost:9092", BROKERS, "", "bootstrap brokers"
    )
    kafka_assignment: str = setting(
        "KAFKA_ASSIGNMENT",
        "all",
        choice("all", "group"),
        "",
        "all: every instance reads every partition; group: the members of "
        "KAFKA_CONSUMER_GROUP share them",
    )
    kafka_consumer_group: str = setting(
        "KAFKA_CONSUMER_GROUP",
        "ws-server-group",
        TEXT,
        "",
        "the consumer group to join with KAFKA_ASSIGNMENT=group",
    )
    kafka_fetch_max_wait_seconds: float = setting(
        "KAFKA_FETCH_MAX_WAIT_SECONDS",
        "0.5",
        number(0.001, 30),
        "s",
        "longest wait of the broker for records before it responds to a fetch",
    )
    kafka_probe_seconds: float = setting(
        "KAFKA_PROBE_SECONDS",
        "5",
        number(0.1, 60),
        "s",
        "interval of metadata and lag requests, their timeout, and how long a "
        "partition may fail before health shows it",
    )
    ws_catalogue: Path | None = setting(
        "WS_CATALOGUE",
        "",
        FILE,
        "",
        "file of topics, categories and bundles (TOML); default: Odin's",
    )
    ws_max_kafka_rate: float = setting(
        "WS_MAX_KAFKA_RATE",
        "1000",
        number(0),
        "records/s",
        "records read per second at most; 0 for no limit",
    )
    ws_max_record_bytes: int = setting(
        "WS_MAX_RECORD_BYTES",
        str(256 << 10),
        integer(1024, 16 * MIB),
        "bytes",
        "records with a larger value are skipped and counted",
    )
    ws_record_headers: tuple[str, ...] = setting(
        "WS_RECORD_HEADERS",
        "",
        HEADER_NAMES,
        "",
        "record headers that messages carry; default: none",
    )
    kafka_dead_letter_topic: str = setting(
        "KAFKA_DEAD_LETTER_TOPIC",
        "",
        TOPIC,
        "",
        "topic for skipped records and their reason; default: none",
    )
