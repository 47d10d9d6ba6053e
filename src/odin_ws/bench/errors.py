"""The error of a benchmark that cannot run."""

from __future__ import annotations

__all__ = ["BenchFailed"]


class BenchFailed(RuntimeError):
    """The benchmark cannot run; the message names what is missing or which process has exited."""
