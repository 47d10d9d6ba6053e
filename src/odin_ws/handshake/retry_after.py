"""Retry-After headers and `retry_ms` with jitter."""

from __future__ import annotations

import random
from typing import Final

__all__ = ["retry_after", "retry_ms"]

# Clients turned away come back spread over these seconds, not all at once.
_SECONDS: Final = (2, 10)


def retry_after() -> tuple[str, str]:
    """A header for a rejection."""
    return "Retry-After", str(random.randint(*_SECONDS))  # noqa: S311 -- jitter, not a secret


def retry_ms() -> int:
    """When to send a command again that could not be carried out now, milliseconds."""
    return random.randint(*(1000 * seconds for seconds in _SECONDS))  # noqa: S311 -- jitter
