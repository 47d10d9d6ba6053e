"""Caches an ops page for one second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import trio

__all__ = ["PAGE_SECONDS", "PageCache"]

T = TypeVar("T")

# Prometheus and people ask every few seconds at most; a build takes milliseconds of the loop that
# serves subscribers.
PAGE_SECONDS: Final = 1.0


class PageCache(Generic[T]):
    """Builds a page when a request finds none that is younger than `seconds`.

    Requests that come during a build wait for its result. `seconds` of 0 builds for every request,
    one after the other.
    """

    def __init__(self, build: Callable[[], Awaitable[T]], seconds: float = PAGE_SECONDS) -> None:
        self._build = build
        self._seconds = seconds
        self._building = trio.Lock()
        self._built: tuple[float, T] | None = None

    async def get(self) -> T:
        """Return the page, built now if the last one is too old.

        If a build is cancelled or fails, the next request builds again.
        """
        async with self._building:
            if self._built is None or trio.current_time() - self._built[0] >= self._seconds:
                page = await self._build()
                self._built = trio.current_time(), page
            return self._built[1]
