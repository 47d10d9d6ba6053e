"""Why a benchmark cannot run."""

from __future__ import annotations

__all__ = ["BenchFailed"]


class BenchFailed(RuntimeError):
    """The message says what is missing, or what ended."""
