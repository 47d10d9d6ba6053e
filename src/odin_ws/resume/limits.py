"""What replays may cost, and what they have done."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from odin_ws.resume.plan import Reason

__all__ = ["RECOVERED", "ReplayLimits", "ReplayStats"]

RECOVERED: Final = "recovered"


@attrs.frozen
class ReplayLimits:
    """`records`: one replay reads at most so many from the archive, of all tokens."""

    records: int


@attrs.define(eq=False)
class ReplayStats:
    """Counts since the start.

    `results`: replays that began, by `recovered` or the reason why not all could be had.
    `not_now`: those that could not begin, for want of the log. `active`: under way now.
    """

    results: Counter[Reason | str] = attrs.field(factory=Counter)
    not_now: int = 0
    active: int = 0
    from_tail: int = 0  # messages
    from_archive: int = 0  # messages
