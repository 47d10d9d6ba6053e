"""A page is built at most once a second; requests within that second share it."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from odin_ws.ops.page_cache import PageCache


class Builds:
    """A page whose content is the number of its builds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.count = 0
        self._seconds = seconds
        self.fails = False

    async def build(self) -> int:
        """Build the page."""
        self.count += 1
        built = self.count
        await trio.sleep(self._seconds)
        if self.fails:
            raise RuntimeError("a bug of a page")
        return built


async def test_requests_within_a_second_share_one_build(autojump_clock: MockClock) -> None:
    """The first request after the second causes another build."""
    builds = Builds()
    page = PageCache(builds.build)
    assert [await page.get() for _ in range(100)] == [1] * 100
    await trio.sleep(0.99)
    assert await page.get() == 1
    await trio.sleep(0.02)
    assert await page.get() == 2


async def test_requests_during_a_build_wait_for_it(autojump_clock: MockClock) -> None:
    """At most one build runs at a time, and slow builds do not follow one another directly."""
    builds = Builds(seconds=2)
    page = PageCache(builds.build)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(page.get)
    assert builds.count == 1
    assert trio.current_time() == pytest.approx(2)
    assert await page.get() == 1


async def test_next_request_continues_after_a_cancelled_build(autojump_clock: MockClock) -> None:
    """Other requests get the page although the client that caused the build has left."""
    builds = Builds(seconds=2)
    page = PageCache(builds.build)
    found = []

    async def wait() -> None:
        found.append(await page.get())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(wait_behind, wait)
            await page.get()
    assert found == [2]


async def wait_behind(wait: Callable[[], Awaitable[None]]) -> None:
    """Send a request a moment later."""
    await trio.sleep(0.5)
    await wait()


async def test_failed_build_is_not_shared(autojump_clock: MockClock) -> None:
    """The next request builds again."""
    builds = Builds()
    builds.fails = True
    page = PageCache(builds.build)
    with pytest.raises(RuntimeError):
        await page.get()
    builds.fails = False
    assert await page.get() == 2


async def test_zero_seconds_build_for_every_request(autojump_clock: MockClock) -> None:
    """A worker does so, because its supervisor caches the merged page."""
    page = PageCache(Builds().build, 0)
    assert [await page.get() for _ in range(3)] == [1, 2, 3]
