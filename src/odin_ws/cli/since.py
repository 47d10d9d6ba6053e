"""The option type of `--since`: a duration before now, or epoch milliseconds."""

from __future__ import annotations

import re
import time
from typing import Any, Final

import click

__all__ = ["Since"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_EPOCH_MS: Final = re.compile(r"[0-9]{1,15}")


class Since(click.ParamType[int]):
    """`10m` is 10 minutes ago; a bare number is epoch ms. Converts to epoch ms."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the text to epoch ms. Raises click.BadParameter."""
        text = str(value)
        if _EPOCH_MS.fullmatch(text):
            return int(text)
        found = _DURATION.fullmatch(text)
        if found is None:
            self.fail(f"{text!r} is neither a duration (90s, 10m, 1h, 2d) nor epoch ms", param, ctx)
        ago = float(found[1]) * _UNITS[found[2]]
        return max(0, int((time.time() - ago) * 1000))
