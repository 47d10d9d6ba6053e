"""Tokens that a client is given one after the other."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Given"]


class Given:
    """Returns, or raises, each of these in turn, and then the last for ever."""

    def __init__(self, each: Iterable[str | Exception]) -> None:
        self.calls = 0
        self._each = list(each)

    async def __call__(self) -> str:
        """What the client awaits."""
        one = self._each[min(self.calls, len(self._each) - 1)]
        self.calls += 1
        if isinstance(one, Exception):
            raise one
        return one
