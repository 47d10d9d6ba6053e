"""The shipped alert rules with shorter times, so that a test need not wait for minutes."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["shortened"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}

# `for: 2m` and ranges like `[5m]` are shortened, limits on dates are not.
_DURATION: Final = re.compile(r"(for: |\[)(\d+)([smh])\b")


def shortened(rules: str, factor: float) -> str:
    """Return the text of rules with all durations divided; none is below a second."""

    def shorter(found: re.Match[str]) -> str:
        before, number, unit = found.groups()
        seconds = int(number) * _SECONDS[unit] / factor
        return f"{before}{max(1000, round(seconds * 1000))}ms"

    return _DURATION.sub(shorter, rules)
