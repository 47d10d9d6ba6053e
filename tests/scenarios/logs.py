"""What a scenario logs."""

from __future__ import annotations

from collections.abc import Sequence

from structlog.typing import EventDict

__all__ = ["lines_above_debug"]


def lines_above_debug(logs: Sequence[EventDict]) -> list[str]:
    """What would be printed at LOG_LEVEL=info."""
    return [line["event"] for line in logs if line["log_level"] != "debug"]
