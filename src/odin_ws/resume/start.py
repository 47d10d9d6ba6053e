"""Where a replay begins: found, waited for, and judged by what the log still has."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from odin_ws.archive import Archive, ArchiveUnavailable, Span
from odin_ws.hub import Hub, Want
from odin_ws.protocol.envelope import Message
from odin_ws.records import TopicPartition
from odin_ws.resume.limits import ReplayLimits, ReplayStats
from odin_ws.resume.plan import Losses, judge_past, judge_unknown
from odin_ws.resume.scans import Scans

__all__ = ["Beginning", "ReplayContext", "Start", "pause"]

T = TypeVar("T")

# Another instance may be ahead of this one by a moment; only then is the log asked who is right.
_AHEAD_SECONDS: Final = 1.0

# Many may wait for the log: they do not ask again together.
_RETRY_SECONDS: Final = (0.5, 1.5)


@attrs.frozen
class ReplayContext:
    """What all replays share."""

    hub: Hub
    archive: Archive
    limits: ReplayLimits
    scans: Scans
    stats: ReplayStats = attrs.field(factory=ReplayStats)


@attrs.frozen
class Beginning:
    """What is to become live, and from where on.

    The positions in `want` say it. In partitions that have none there, `since`: with the messages
    of that time (epoch ms); `live`: with what is newest; `snapshot`: and the last message of each
    channel before it.
    """

    want: Want
    since: int | None = None
    live: bool = False
    snapshot: bool = False


class Start:
    """Finds the place of a beginning, and what of it is lost. `want` moves there."""

    def __init__(self, context: ReplayContext, want: Want) -> None:
        self.losses = Losses()
        self._hub = context.hub
        self._archive = context.archive
        self._most = context.limits.records
        self._want = want

    async def find(self, beginning: Beginning) -> list[Message]:
        """Go there; returns the snapshot, where one is asked for. The caller bounds the time."""
        intake = self._hub.intake
        await intake.filled.wait()
        topics = intake.catalogue.topics_of(self._want.patterns)
        snapshot: list[Message] = []
        if beginning.since is not None:
            ask = partial(self._archive.positions_at, topics, beginning.since)
            found = await self._ask(ask)
            live = self._live(topics)
            self._want.begin({key: found.get(key, offset) for key, offset in live.items()})
        elif beginning.live:
            self._want.begin(self._live(topics))
            if beginning.snapshot:
                snapshot = intake.last.matching(self._want.patterns)
        await self.reach()
        await self.judge()
        return snapshot

    def _live(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        return {
            TopicPartition(topic, partition): offset
            for topic in topics
            for partition, offset in self._hub.intake.positions.get(topic, {}).items()
        }

    async def judge(self) -> None:
        """Give up what the log does not have any more, or what is too much."""
        if needed := self.below_tail():
            bounds = await self._ask(partial(self._archive.bounds, needed))
            judge_past(self._want, self.losses, needed, bounds, self._most)

    def below_tail(self) -> dict[TopicPartition, Span]:
        """What is wanted and no longer in the hot tail."""
        floor = self._hub.retention.floor
        return {
            key: Span(offset + 1, end)
            for key, offset in self._want.positions().items()
            if (end := floor(key)) is not None and offset < end
        }

    async def reach(self) -> None:
        """Wait until we are where the client is, unless nobody ever was."""
        await self._meet()
        intake = self._hub.intake
        while ahead := self._ahead():
            with trio.move_on_after(_AHEAD_SECONDS) as scope:
                # Only what was ahead is looked at again: positions move often, and many may wait.
                while ahead := self._not_reached(ahead):
                    await intake.wait_moved()
            if scope.cancelled_caught:
                keys = list(self._ahead())
                bounds = await self._ask(partial(self._archive.bounds, keys))
                judge_unknown(self._want, self.losses, self._ahead(), intake.position, bounds)

    async def _meet(self) -> None:
        """Wait for partitions that the log has and we have not noticed yet; give up the others."""
        intake = self._hub.intake
        unknown = [key for key in self._want.positions() if intake.position(key) is None]
        # A member of a group leaves those of others to them.
        if unknown and not intake.partial:
            bounds = await self._ask(partial(self._archive.bounds, unknown))
            highest = self._want.highest()
            for key in unknown:
                # Who had nothing of it has lost nothing.
                if key not in bounds and highest[key] >= 0:
                    self.losses.unknown(key, Span(0, -1))
            while any(intake.position(key) is None for key in bounds):
                await intake.wait_moved()
        self._want.forget({key for key in unknown if intake.position(key) is None})

    def _ahead(self) -> dict[TopicPartition, int]:
        """The positions that we have not reached."""
        return self._not_reached(self._want.highest())

    def _not_reached(self, positions: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        position = self._hub.intake.position
        return {
            key: offset
            for key, offset in positions.items()
            if (live := position(key)) is not None and offset > live
        }

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except ArchiveUnavailable:
                await pause()


async def pause() -> None:
    """Wait before the log is asked again."""
    await trio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 -- jitter, not a secret
