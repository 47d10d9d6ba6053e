"""The records that match a benchmark's filter: by number, in compiled code and for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from odin_ws.bench.compiled import compiled

__all__ = ["matched"]


@compiled
def matched(number: Any, filters: int, threshold: Any) -> Any:
    """Return how many of the numbers from 0 to `number` match a filter.

    A number matches if its remainder modulo `filters` is at least `threshold`; without filters
    every number matches. `number` and `threshold` are both integers or both arrays.
    """
    if not filters:
        return number + 1
    whole, rest = (number + 1) // filters, (number + 1) % filters
    return whole * (filters - threshold) + np.maximum(rest - threshold, 0)
