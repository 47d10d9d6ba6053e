"""Settings of history, snapshots and replays."""

from __future__ import annotations

import attrs

from odin_ws.settings.declaration import MIB, integer, number, setting

__all__ = ["HistorySettings"]


@attrs.frozen(slots=False)  # several are bases of one class
class HistorySettings:
    """See odin_ws.settings.Settings."""

    ws_history_bytes: int = setting(
        "WS_HISTORY_BYTES",
        str(64 * MIB),
        integer(0),
        "bytes",
        "memory for recent messages, from which clients resume; 0 for none",
    )
    ws_history_seconds: float = setting(
        "WS_HISTORY_SECONDS", "300", number(0), "s", "longest time that a message stays in history"
    )
    ws_snapshot_bytes: int = setting(
        "WS_SNAPSHOT_BYTES",
        str(32 * MIB),
        integer(0),
        "bytes",
        "memory for the last message of each channel, for snapshots; 0 for none",
    )
    ws_replay_consumers: int = setting(
        "WS_REPLAY_CONSUMERS",
        "4",
        integer(1, 64),
        "scans",
        "limit of concurrent scans of Kafka's log; clients share scans",
    )
    ws_max_replay_records: int = setting(
        "WS_MAX_REPLAY_RECORDS",
        "1000000",
        integer(0),
        "records",
        "records that one replay may read from Kafka; older ones are reported as lost",
    )
    ws_positions_interval_seconds: float = setting(
        "WS_POSITIONS_INTERVAL_SECONDS",
        "10",
        number(0.1, 3600),
        "s",
        "time between positions notices to a client that requested positions",
    )
