"""Why a benchmark cannot run."""

from __future__ import annotations

__all__ = ["BenchFailed"]


class BenchFailed(RuntimeError):
    """The benchmark cannot run; the message says what is missing or has exited."""
