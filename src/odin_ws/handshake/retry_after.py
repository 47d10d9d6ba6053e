"""Retry-After headers and `retry_ms` with jitter."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["retry_after", "retry_ms"]

# Rejected clients retry spread over these seconds, not all at once.
_SECONDS: Final = (2, 10)


def retry_after() -> tuple[str, str]:
    """Return the header of a rejection."""
    return "Retry-After", str(random.randint(*_SECONDS))  # noqa: S311 -- jitter, not a secret


def retry_ms() -> int:
    """Return after how many milliseconds to send a failed command again."""
    return random.randint(*(1000 * seconds for seconds in _SECONDS))  # noqa: S311 -- jitter
