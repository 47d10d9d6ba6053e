"""Examples at the end of a command's help."""

from __future__ import annotations

__all__ = ["examples"]


def examples(*commands: tuple[str, str]) -> str:
    """Return the `epilog` of a click command: each command line under a comment."""
    lines = "\n".join(f"  # {comment}\n  {command}" for comment, command in commands)
    return f"\b\nExamples:\n{lines}"
