"""Selects the headers of a record that messages carry (WS_RECORD_HEADERS)."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from odin_ws.records import RecordHeaders

__all__ = ["MAX_HEADER_BYTES", "NO_NAMES", "select_headers"]

NO_NAMES: Final[AbstractSet[str]] = frozenset()
"""Selects no header: headers are not decoded."""

MAX_HEADER_BYTES: Final = 1024
"""A longer value is left out: every subscriber would get it with every message."""


def select_headers(
    headers: Iterable[tuple[str, bytes | None]], names: AbstractSet[str]
) -> RecordHeaders:
    """Return the headers of these names, in their order; of a repeated one the last."""
    found = {name: value for name, value in headers if name in names}
    return tuple(
        (name, value)
        for name, value in found.items()
        if value is None or len(value) <= MAX_HEADER_BYTES
    )
