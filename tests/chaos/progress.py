"""The progress of a child process: a small file that the process replaces and the run reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

__all__ = ["read_progress", "write_progress"]

_NAME = "progress.json"


def write_progress(directory: Path, counts: Mapping[str, float]) -> None:
    """Replace the file; a reader sees the old or the new contents, never half of them."""
    partial = directory / f"{_NAME}.partial"
    partial.write_text(json.dumps(counts), "utf-8")
    partial.replace(directory / _NAME)


def read_progress(directory: Path) -> dict[str, float]:
    """Return the last counts; none before the first write."""
    try:
        text = (directory / _NAME).read_text("utf-8")
    except FileNotFoundError:
        return {}
    counts: dict[str, float] = json.loads(text)
    return counts
