"""Advice for an operator about each warning and error of the health report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["ADVICE", "GENERAL", "advise"]

_PAGE: Final = "docs/monitoring.md#health-checks"

# The default advice; a test checks that each known line has advice of its own.
GENERAL: Final = ("The log has more.", _PAGE)

# The beginning of a line about single partitions.
_PARTITIONS: Final = "kafka:"

# Advice by the beginning of a line of `warnings` or `errors`, after the worker's name; the first
# match counts. `see` is the page of docs/ with details.
ADVICE: Final[Sequence[tuple[str, str, str]]] = (
    (
        "kafka: starting",
        "Check KAFKA_BROKERS and that the brokers answer; the server retries by itself.",
        "docs/kafka.md",
    ),
    (
        "kafka: stalled",
        "Check the brokers. Clients stay connected and get everything when Kafka is back.",
        "docs/kafka.md#outages",
    ),
    ("kafka: stopped", "The server is ending; its log says why.", "docs/shutdown.md"),
    (
        "kafka: topics do not exist",
        "Run `odin-ws topics create`, or correct the catalogue; the other topics are served.",
        "docs/kafka.md",
    ),
    (
        "kafka: paced",
        "Records wait in Kafka. If this lasts, raise WS_MAX_KAFKA_RATE; 0 is no limit.",
        "docs/rate-limiting.md",
    ),
    (
        _PARTITIONS,
        "These partitions are not read, the others are. Check their leader and the permissions.",
        "docs/kafka.md#outages",
    ),
    (
        "capacity:",
        "Add an instance, or raise WS_MAX_CONNECTIONS: at 100% new clients get 503.",
        "docs/rate-limiting.md#overload",
    ),
    (
        "memory: it cannot be measured",
        "The log says why; if descriptors are used up, raise their limit.",
        _PAGE,
    ),
    (
        "cpu: it cannot be measured",
        "The log says why; if descriptors are used up, raise their limit.",
        _PAGE,
    ),
    (
        "memory:",
        "Add an instance or memory: at 100% new clients get 503.",
        "docs/rate-limiting.md#overload",
    ),
    (
        "cpu:",
        "Add a worker (WS_WORKERS) if a core is free, or an instance.",
        "docs/operations.md#several-workers",
    ),
    (
        "tls:",
        "Renew the certificate, then send SIGHUP: clients stay connected.",
        "docs/operations.md#tls",
    ),
    (
        "canary:",
        "The server cannot use its own port as a client; clients may fail in the same way.",
        "docs/monitoring.md#canary",
    ),
    (
        "draining",
        "The server is shutting down: its clients reconnect to other instances and resume there.",
        "docs/shutdown.md",
    ),
    (
        "does not respond",
        "The other workers serve. A worker that is silent for 30 s is killed and replaced.",
        "docs/operations.md#several-workers",
    ),
    (
        "is being replaced",
        "The other workers serve. The log says why this one ended.",
        "docs/operations.md#several-workers",
    ),
    ("has exited", "The server is shutting down.", "docs/shutdown.md"),
)

_WORKER: Final = re.compile(r"worker \d+: ")


def advise(errors: Iterable[str], warnings: Iterable[str]) -> list[dict[str, str]]:
    """Return `level`, `text`, `action` and `see` of each line.

    Leaves out lines about partitions while the whole feed has an error: they would repeat the error
    for each topic, and say that other partitions are read.
    """
    errors = list(errors)
    found = [{"level": "error", "text": line, **_advice(line)[1]} for line in errors]
    without_feed = {_worker(line) for line in errors if _kafka(line)}
    for line in warnings:
        begin, advice = _advice(line)
        if begin != _PARTITIONS or _worker(line) not in without_feed:
            found.append({"level": "warning", "text": line, **advice})
    return found


def _worker(line: str) -> str:
    """Return the worker's name at the beginning of the line, if any."""
    match = _WORKER.match(line)
    return match[0] if match else ""


def _kafka(line: str) -> bool:
    return line.removeprefix(_worker(line)).startswith(_PARTITIONS)


def _advice(line: str) -> tuple[str, dict[str, str]]:
    """Return the matching beginning of the line, and its `action` and `see`."""
    text = line.removeprefix(_worker(line))
    for begin, action, see in ADVICE:
        if text.startswith(begin):
            return begin, {"action": action, "see": see}
    action, see = GENERAL
    return "", {"action": action, "see": see}
