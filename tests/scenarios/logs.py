"""Helpers for the log lines of a scenario."""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import EventDict

__all__ = ["lines_above_debug"]


def lines_above_debug(logs: Sequence[EventDict]) -> list[str]:
    """Return the events that would be logged at LOG_LEVEL=info."""
    return [line["event"] for line in logs if line["log_level"] != "debug"]
