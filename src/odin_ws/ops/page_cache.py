"""Caches an ops page for one second."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import trio

__all__ = ["PAGE_SECONDS", "PageCache"]

T = TypeVar("T")

# Prometheus and people request a page every few seconds; a build takes milliseconds of the event
# loop that serves subscribers.
PAGE_SECONDS: Final = 1.0


class PageCache(Generic[T]):
    """Builds a page if a request finds none that is younger than `seconds`.

    Requests that arrive during a build wait for its result. With `seconds` of 0 each request builds
    the page, one request after the other.
    """

    def __init__(self, build: Callable[[], Awaitable[T]], seconds: float = PAGE_SECONDS) -> None:
        self._build = build
        self._seconds = seconds
        self._building = trio.Lock()
        self._built: tuple[float, T] | None = None

    async def get(self) -> T:
        """Return the page; builds it if the cached one is too old.

        If a build is cancelled or fails, the next request builds again.
        """
        async with self._building:
            if self._built is None or trio.current_time() - self._built[0] >= self._seconds:
                page = await self._build()
                self._built = trio.current_time(), page
            return self._built[1]
