"""The rows of the Grafana dashboard: panels with their PromQL queries; see dashboard.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["ROWS", "I", "Panel", "Query"]

# `instance` and `topic` are variables of the dashboard, selected at the top of the page.
I: Final = 'instance=~"$instance"'  # noqa: E741 -- it stands in each query
IT: Final = f'{I}, topic=~"$topic"'
RATE: Final = "[$__rate_interval]"


class Query(NamedTuple):
    """One query of a panel."""

    expr: str
    """The PromQL expression."""
    legend: str
    """The name of each line in the chart."""


class Panel(NamedTuple):
    """One chart."""

    title: str
    unit: str
    """Grafana's name of the unit."""
    help: str
    """The explanation of the chart for readers."""
    queries: Sequence[Query]


def _rate(metric: str, by: str, labels: str = I) -> str:
    return f"sum by ({by}) (rate({metric}{{{labels}}}{RATE}))"


def _gauge(metric: str, labels: str = I) -> str:
    return f"{metric}{{{labels}}}"


def _quantile(share: float, metric: str) -> str:
    inner = f"sum by (instance, le) (rate({metric}_bucket{{{I}}}{RATE}))"
    return f"histogram_quantile({share}, {inner})"


def _quantiles(metric: str) -> list[Query]:
    return [
        Query(_quantile(share, metric), f"{{{{instance}}}} p{share:.0%}".rstrip("%"))
        for share in (0.5, 0.99)
    ]


ROWS: Final[dict[str, Sequence[Panel]]] = {
    "Subscribers": [
        Panel(
            "Open connections",
            "short",
            "The dashed lines are WS_MAX_CONNECTIONS.",
            [
                Query(_gauge("ws_connections_active"), "{{instance}}"),
                Query(_gauge("ws_connections_max"), "{{instance}} limit"),
            ],
        ),
        Panel(
            "Ended connections by reason",
            "cps",
            "docs/protocol.md explains each reason.",
            [Query(_rate("ws_disconnects_total", "reason"), "{{reason}}")],
        ),
        Panel(
            "New connections and commands",
            "cps",
            "",
            [
                Query(_rate("ws_connections_total", "instance"), "{{instance}} connections"),
                Query(_rate("ws_messages_received_total", "instance"), "{{instance}} commands"),
            ],
        ),
        Panel(
            "Bytes that wait for slow clients",
            "bytes",
            "Total, and the client with the most; it is closed at WS_SEND_QUEUE_BYTES.",
            [
                Query(_gauge("ws_send_queue_backlog_bytes"), "{{instance}} total"),
                Query(_gauge("ws_send_queue_backlog_max_bytes"), "{{instance}} most"),
            ],
        ),
        Panel(
            "Clients closed as slow",
            "cps",
            "They resume and lose nothing: docs/back-pressure.md.",
            [Query(_rate("ws_slow_clients_disconnected_total", "instance"), "{{instance}}")],
        ),
        Panel(
            "Patterns with a subscriber",
            "short",
            "",
            [Query(_gauge("ws_subscribed_patterns"), "{{instance}}")],
        ),
    ],
    "Delivery": [
        Panel(
            "Messages sent",
            "cps",
            "",
            [Query(_rate("ws_messages_sent_total", "instance"), "{{instance}}")],
        ),
        Panel(
            "Age of records at delivery",
            "s",
            "From the record's timestamp in Kafka to the send queue; clocks have to agree.",
            _quantiles("ws_record_age_seconds"),
        ),
        Panel(
            "Time of a dispatch cycle",
            "s",
            "It grows first when deliveries use up the core.",
            _quantiles("ws_dispatch_cycle_seconds"),
        ),
        Panel(
            "Bytes sent",
            "Bps",
            "What the kernel accepted.",
            [Query(_rate("ws_bytes_sent_total", "instance"), "{{instance}}")],
        ),
        Panel(
            "Connections with compression",
            "short",
            "Clients that offered permessage-deflate.",
            [Query(_gauge("ws_deflate_connections_active"), "{{instance}}")],
        ),
        Panel(
            "Size after compression",
            "percentunit",
            "Of each compressed text once, not of what all clients get: docs/protocol.md.",
            [
                Query(
                    f"{_rate('ws_compression_output_bytes_total', 'instance')} / "
                    f"{_rate('ws_compression_input_bytes_total', 'instance')}",
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "CPU of compression",
            "percentunit",
            "Of one core.",
            [Query(_rate("ws_compression_cpu_seconds_total", "instance"), "{{instance}}")],
        ),
        Panel(
            "Messages skipped for `delivery: latest`",
            "cps",
            "A newer message of the same channel replaced them.",
            [Query(_rate("ws_messages_skipped_total", "instance"), "{{instance}}")],
        ),
        Panel(
            "Waiting for the read scheduler",
            "short",
            "Connections with unread bytes, replays, and long commands.",
            [
                Query(_gauge("ws_read_scheduler_waiting"), "{{instance}} connections"),
                Query(_gauge("ws_replays_waiting"), "{{instance}} replays"),
                Query(_gauge("ws_replay_window_waiting"), "{{instance}} replays, replay window"),
                Query(_gauge("ws_time_slices_waiting"), "{{instance}} commands"),
            ],
        ),
    ],
    "Kafka": [
        Panel(
            "Records read per topic",
            "cps",
            "Of one instance: each reads everything.",
            [
                Query(
                    f"max by (topic) (rate(ws_kafka_messages_received_total{{{IT}}}{RATE}))",
                    "{{topic}}",
                )
            ],
        ),
        Panel(
            "Lag per topic",
            "short",
            "Unread records at the last probe, of the instance with the most.",
            [Query(f"max by (topic) ({_gauge('ws_kafka_lag_records', IT)})", "{{topic}}")],
        ),
        Panel(
            "Partitions in trouble",
            "short",
            "Not read, or held back by an open transaction: docs/kafka.md.",
            [
                Query(
                    f"max by (topic) ({_gauge('ws_kafka_partitions_not_read', IT)})",
                    "{{topic}} not read",
                ),
                Query(_gauge("ws_kafka_partitions_held"), "{{instance}} held"),
            ],
        ),
        Panel(
            "Feed live, delayed by the rate limit",
            "bool",
            "",
            [
                Query(_gauge("ws_kafka_connected"), "{{instance}} live"),
                Query(_gauge("ws_kafka_paced"), "{{instance}} paced"),
            ],
        ),
        Panel(
            "Skipped and lost records",
            "cps",
            "Skipped: docs/dead-letter-queue.md. Lost: deleted by Kafka before they were read.",
            [
                Query(_rate("ws_kafka_messages_failed_total", "reason"), "{{reason}}"),
                Query(_rate("ws_kafka_records_lost_total", "instance"), "{{instance}} lost"),
            ],
        ),
        Panel(
            "Dead letters",
            "cps",
            "",
            [Query(_rate("ws_dead_letters_total", "result"), "{{result}}")],
        ),
    ],
    "Resume": [
        Panel(
            "Replays by result",
            "cps",
            "All but `recovered` and `not_available` are losses, which the client's ack names.",
            [Query(_rate("ws_replays_total", "result"), "{{result}}")],
        ),
        Panel(
            "Replayed messages by origin",
            "cps",
            "`log`: the history did not reach back far enough, and Kafka was read.",
            [Query(_rate("ws_replayed_messages_total", "from"), "{{from}}")],
        ),
        Panel(
            "Replays and scans under way",
            "short",
            "",
            [
                Query(_gauge("ws_replays_active"), "{{instance}} replays"),
                Query(_gauge("ws_scans_active"), "{{instance}} scans"),
                Query(_gauge("ws_scan_clients"), "{{instance}} clients on a scan"),
                Query(_gauge("ws_scan_clients_waiting"), "{{instance}} clients waiting"),
            ],
        ),
        Panel(
            "Records read by scans",
            "cps",
            "",
            [
                Query(_rate("ws_scan_records_total", "instance"), "{{instance}} read"),
                Query(_rate("ws_scan_records_matched_total", "instance"), "{{instance}} matched"),
            ],
        ),
        Panel(
            "History",
            "bytes",
            "At WS_HISTORY_BYTES the oldest messages go.",
            [Query(_gauge("ws_history_bytes"), "{{instance}}")],
        ),
        Panel(
            "Scans that failed, clients that delayed one",
            "cps",
            "",
            [
                Query(_rate("ws_scans_failed_total", "instance"), "{{instance}} failed"),
                Query(_rate("ws_scan_clients_detached_total", "instance"), "{{instance}} detached"),
            ],
        ),
    ],
    "Resources": [
        Panel(
            "CPU",
            "percent",
            "100 is all that a process may use; above 98 for 30 s new connections are rejected.",
            [Query(_gauge("ws_cpu_usage_percent"), "{{instance}}")],
        ),
        Panel(
            "Memory in use",
            "percentunit",
            "Of the limit, without what is free within the process.",
            [
                Query(
                    f"({_gauge('ws_memory_bytes')} - {_gauge('ws_memory_reusable_bytes')})"
                    f" / {_gauge('ws_memory_limit_bytes')}",
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "Delay of the event loop",
            "s",
            "Delay of tasks in the event loop, ten samples a second.",
            _quantiles("ws_event_loop_delay_seconds"),
        ),
        Panel(
            "File descriptors",
            "percentunit",
            "",
            [
                Query(
                    f"{_gauge('process_open_fds')} / {_gauge('process_max_fds')}",
                    "{{instance}}",
                )
            ],
        ),
        Panel(
            "Time in pauses",
            "s",
            "Seconds per second in which the process did not run.",
            [Query(_rate("ws_paused_seconds_total", "instance"), "{{instance}}")],
        ),
        Panel(
            "Uptime",
            "s",
            "",
            [Query(f"time() - {_gauge('process_start_time_seconds')}", "{{instance}}")],
        ),
        Panel(
            "Canary",
            "s",
            "Time of each step of the server's own client: docs/monitoring.md#canary.",
            [Query(f"max by (step) ({_gauge('ws_canary_step_seconds')})", "{{step}}")],
        ),
        Panel(
            "Canary failures",
            "cps",
            "",
            [Query(_rate("ws_canary_failures_total", "instance, step"), "{{instance}} {{step}}")],
        ),
    ],
    "Rejected": [
        Panel(
            "Connections rejected",
            "cps",
            "Before the upgrade, by reason: docs/protocol.md#http-errors.",
            [Query(_rate("ws_connections_failed_total", "reason"), "{{reason}}")],
        ),
        Panel(
            "Connections rejected for lack of capacity",
            "cps",
            "",
            [
                Query(
                    _rate("ws_capacity_rejections_total", "instance, reason"),
                    "{{instance}} {{reason}}",
                )
            ],
        ),
        Panel(
            "Commands rejected",
            "cps",
            "",
            [
                Query(_rate("ws_commands_rejected_total", "code"), "{{code}}"),
                Query(_rate("ws_names_rejected_total", "code"), "name: {{code}}"),
            ],
        ),
        Panel(
            "Tokens rejected",
            "cps",
            "docs/auth.md has the reasons.",
            [Query(_rate("ws_jwt_rejected_total", "reason"), "{{reason}}")],
        ),
        Panel(
            "Ops port: requests rejected",
            "cps",
            "",
            [Query(_rate("ws_ops_requests_rejected_total", "reason"), "{{reason}}")],
        ),
        Panel(
            "Bugs, log lines lost",
            "cps",
            "",
            [
                Query(_rate("ws_errors_total", "instance"), "{{instance}} bugs"),
                Query(_rate("ws_log_lines_dropped_total", "instance"), "{{instance}} lines"),
            ],
        ),
    ],
}
