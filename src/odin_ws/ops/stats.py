"""Counters of rejected ops requests."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

__all__ = ["OPS_REJECTIONS", "OpsStats"]

# All reasons; each has a sample from the start.
OPS_REJECTIONS: Final = (
    "bad_host",
    "bad_method",
    "bad_request",
    "cross_site",
    "error",
    "max_connections",
    "max_streams",
    "not_found",
    "rate",
    "revocation",
    "timeout",
    "unauthorized",
)


@attrs.define(eq=False)
class OpsStats:
    """Counters of one ops port since the start."""

    rejected: Counter[str] = attrs.field(factory=Counter)
    """Rejected requests and connections, by reason."""
