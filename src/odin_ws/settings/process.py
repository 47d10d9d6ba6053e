"""Settings of the process: ops port, workers, drain, CPU and memory limits, logging."""

from __future__ import annotations

import attrs

from odin_ws.address import Address
from odin_ws.settings.declaration import ADDRESS, choice, integer, number, setting

__all__ = ["ProcessSettings"]


@attrs.frozen(slots=False)  # several are bases of one class
class ProcessSettings:
    """See odin_ws.settings.Settings."""

    ws_ops_addr: Address = setting(
        "WS_OPS_ADDR",
        "127.0.0.1:3003",
        ADDRESS,
        "",
        "address for health and metrics; keep it internal",
    )
    ws_workers: int = setting(
        "WS_WORKERS",
        "1",
        # 256 exceeds the cores of any machine; more processes would only repeat reads of Kafka.
        integer(1, 256),
        "processes",
        "processes that share the port, one core each; `odin-ws serve --workers` overrides it",
    )
    ws_canary_seconds: int = setting(
        "WS_CANARY_SECONDS",
        "30",
        integer(0, 3600),
        "s",
        "time between the canary's tries of the server's own port; 0 for no canary",
    )
    ws_drain_delay_seconds: float = setting(
        "WS_DRAIN_DELAY_SECONDS",
        "1",
        number(0, 600),
        "s",
        "time from SIGTERM until new connections are rejected, for load balancers to react",
    )
    ws_drain_timeout_seconds: float = setting(
        "WS_DRAIN_TIMEOUT_SECONDS",
        "8",
        number(0.1, 3600),
        "s",
        "time for closing clients after the delay; then the rest are cut off",
    )
    ws_cpu_limit: float = setting(
        "WS_CPU_LIMIT",
        "0",
        number(0, 4096),
        "cores",
        "CPU cores for all processes; while they, or the one core of a process, are used up, "
        "new connections get 503; 0: the container's limit, else the machine's",
    )
    ws_memory_limit: int = setting(
        "WS_MEMORY_LIMIT",
        "0",
        integer(0),
        "bytes",
        "memory of all processes, above it new connections get 503; 0: 90% of the container's "
        "limit, else of the machine's",
    )
    log_level: str = setting(
        "LOG_LEVEL",
        "info",
        choice("debug", "info", "warning", "error"),
        "",
        "lowest level that is logged",
    )
    log_format: str = setting(
        "LOG_FORMAT", "json", choice("json", "text"), "", "format of log lines"
    )
