"""The start of a replay: found, waited for, and compared with what the log still has."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final, TypeVar

import attrs
import trio

from odin_ws.history import Want
from odin_ws.hub import Hub
from odin_ws.log_reader import Archive, ArchiveUnavailable, Span
from odin_ws.protocol.envelope import Message
from odin_ws.records import JumpReason, TopicPartition
from odin_ws.resume.gaps import (
    Losses,
    Reason,
    judge_past,
    judge_truncated,
    judge_unknown,
)
from odin_ws.resume.replay_limits import ReplayLimits, ReplayStats
from odin_ws.resume.scan_chunks import Chunk, chunks_of
from odin_ws.resume.scan_pool import Scans
from odin_ws.steps import Steps

__all__ = ["Beginning", "ReplayContext", "Resumed", "Start", "pause"]

T = TypeVar("T")

# Another instance may be ahead of this one by a moment; only then is the log asked who is right.
_AHEAD_SECONDS: Final = 1.0

# Another instance may have noticed a recreated topic before this one: sources compare topic ids
# every 5 seconds or so.
_NOTICE_SECONDS: Final = 6.0

# Many may wait for the log: they do not ask again together.
_RETRY_SECONDS: Final = (0.5, 1.5)


@attrs.frozen
class ReplayContext:
    """The objects that all replays share."""

    hub: Hub
    archive: Archive
    limits: ReplayLimits
    scans: Scans
    stats: ReplayStats = attrs.field(factory=ReplayStats)


@attrs.frozen
class Beginning:
    """The patterns that are to become live, and from where on.

    The positions in `want` say it. In partitions that have none there, `since`: with the messages
    of that time (epoch ms); `live`: with what is newest; `resumed`: as that says. `snapshot`: and
    the last message of each channel that is not among what comes then.
    """

    want: Want
    since: int | None = None
    live: bool = False
    snapshot: bool = False
    resumed: Resumed | None = None

    @property
    def is_live(self) -> bool:
        """Whether nothing that came before is sent."""
        return self.live and not self.snapshot


@attrs.frozen
class Resumed:
    """The fields of a `resume` besides its positions.

    `topics`: those that its positions name, with partitions or without. `ids`: the ids that topics
    had for it.
    """

    topics: frozenset[str]
    ids: Mapping[str, str] = attrs.field(factory=dict)


class Start:
    """Finds the place of a beginning, and what of it is lost. `want` moves there."""

    def __init__(self, context: ReplayContext, want: Want) -> None:
        self.losses = Losses()
        self._hub = context.hub
        self._changes = context.hub.intake.changes
        self._archive = context.archive
        self._most = context.limits.records
        self._want = want
        # Of all patterns that were wanted at first: a thousand are looked through once.
        self._topics = context.hub.intake.catalogue.topics_of(want.patterns)
        # As of the last look: see `_follow`.
        self._version = 0
        self._lives: Mapping[TopicPartition, int] = {}
        self._known: AbstractSet[TopicPartition] = frozenset()
        self._anew: set[str] = set()
        # Where a live beginning began, in the hub's order.
        self._order: int | None = None

    async def find(self, beginning: Beginning) -> None:
        """Go there. The caller bounds the time."""
        intake = self._hub.intake
        await intake.filled.wait()
        self._look()
        topics = self._topics
        if beginning.since is not None:
            ask = partial(self._archive.positions_at, topics, beginning.since)
            found = await self._ask(ask)
            live = self._live(topics)
            self._want.begin({key: found.get(key, offset) for key, offset in live.items()})
        elif beginning.live:
            self._want.begin(self._live(topics))
            self._order = intake.order
        if beginning.resumed is not None:
            await self._resume(beginning.resumed, topics)
        else:
            self.catch_up(announced=False)
            await self.reach()
        await self.judge()

    def snapshot(
        self, beginning: Beginning, beside: Callable[[Message], bool] | None
    ) -> Steps[list[Chunk]]:
        """The last message of each channel that is not among what comes then.

        `beside`: tells which of them the client is sent anyway; None where there are none.
        """
        intake = self._hub.intake
        until = intake.order
        last = yield from intake.last.matching(list(self._want.patterns), until)
        includes = self._want.includes
        if beginning.live and until == self._order:
            # Nothing has come since: all of it is before what is new.
            leave_out = beside
        elif beside is None:
            leave_out = includes
        else:
            leave_out = partial(_either, beside, includes)
        return (yield from chunks_of(last, leave_out))

    # ---- a client that resumes

    async def _resume(self, resumed: Resumed, topics: Iterable[str]) -> None:
        """Go where a connected client would have gone on."""
        await self._compare_ids(resumed.ids)
        self._look()
        named = dict(self._want.positions())
        self._begin_unnamed(resumed.topics, topics)
        await self.reach()
        self.catch_up(announced=False)
        # A topic may have been missing, and be there now with another id.
        self._begin_recreated(resumed.ids)
        for key, offset in named.items():
            cut = self._changes.cut(key, offset)
            if cut is not None and key not in self.losses.spans:
                self.losses.add(Reason.TRUNCATED, key, cut)

    async def _compare_ids(self, ids: Mapping[str, str]) -> None:
        """Begin recreated topics anew, once it is known that the client's id is the older one."""
        unknown = [
            topic for topic in self._others(ids) if not self._changes.had_before(topic, ids[topic])
        ]
        with trio.move_on_after(_NOTICE_SECONDS if unknown else 0):
            while not self._others(ids).isdisjoint(unknown):
                await self._hub.intake.wait_moved()
        self._begin_recreated(ids)

    def _others(self, ids: Mapping[str, str]) -> set[str]:
        """The topics that have another id for us."""
        known = self._changes.ids
        return {topic for topic, its in ids.items() if known.get(topic, its) != its}

    def _begin_recreated(self, ids: Mapping[str, str]) -> None:
        """All that a new topic has is news; the rest of the old one is lost."""
        topics = self._others(ids) - self._anew
        self._anew |= topics
        named = [key for key in self._want.positions() if key.topic in topics]
        for key in named:
            self.losses.add(Reason.RECREATED, key, Span(0, -1))
        self._want.forget(named)
        self._want.begin(dict.fromkeys(self._live(topics), -1))

    def _begin_unnamed(self, named: Collection[str], topics: Iterable[str]) -> None:
        """Begin partitions without a position: the client named those there were on its connection.

        So a partition of a named topic came into being later, and all of it is news. From a topic
        that it did not name the client gets new records, and is told that the rest does not come.
        The same holds for a member of a group, which cannot know what another one has sent.
        """
        positions = self._want.positions()
        begins: dict[TopicPartition, int] = {}
        for key, live in self._live(topics).items():
            if key in positions:
                continue
            if key.topic in named and not self._hub.intake.partial:
                begins[key] = -1
                continue
            begins[key] = live
            if live >= 0:
                self.losses.add(Reason.NO_POSITION, key, Span(0, live))
        self._want.begin(begins)

    def _live(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        return {
            TopicPartition(topic, partition): offset
            for topic in topics
            for partition, offset in self._hub.intake.positions.get(topic, {}).items()
        }

    def _partitions(self) -> AbstractSet[TopicPartition]:
        return self._live(self._topics).keys()

    async def judge(self) -> None:
        """Give up what the log does not have any more, or what is too much."""
        if needed := self.below_tail():
            bounds = await self._ask(partial(self._archive.bounds, needed))
            judge_past(self._want, self.losses, needed, bounds, self._most)

    def below_tail(self) -> dict[TopicPartition, Span]:
        """The wanted spans that are no longer in the hot tail."""
        floor = self._hub.retention.floor
        return {
            key: Span(offset + 1, end)
            for key, offset in self._want.positions().items()
            if (end := floor(key)) is not None and offset < end
        }

    @property
    def outdated(self) -> bool:
        """Whether the log has changed so that `reach` has to be called before anything is read."""
        return self._version != self._changes.version

    def _look(self) -> None:
        """From here on the log's changes concern us."""
        self._version, self._lives = self._changes.version, self._changes.lives()
        self._known = self._partitions()

    def _follow(self, *, announced: bool) -> dict[TopicPartition, int]:
        """Go on where a connected client does: see `reach`."""
        changes, want = self._changes, self._want
        positions, moved = want.positions(), {}
        for key, offset in positions.items():
            jump = changes.jump_since(key, self._lives.get(key, 0))
            if jump is None:
                continue
            recreated = jump.reason is JumpReason.RECREATED
            if recreated:
                want.place(key, jump.position)
            else:
                want.cut(key, jump.position)
            moved[key] = -1 if recreated else jump.position
            if not announced and (recreated or offset > jump.position):
                self.losses.add(Reason(jump.reason), key, jump.gone)
        new = self._partitions() - self._known - positions.keys()
        want.begin({key: changes.begun(key) for key in new})
        self._look()
        return moved

    def catch_up(self, *, announced: bool) -> Mapping[TopicPartition, int]:
        """Go on in the log as it is now.

        Partitions that appeared meanwhile are wanted from where they began. Returns those that
        were recreated or truncated, with the last offset up to which the log has what it had.
        `announced`: the client has its answer, so a notice has told it of them.
        """
        return self._follow(announced=announced) if self.outdated else {}

    async def reach(self) -> None:
        """Wait until we are where the client is, unless nobody ever was, or the log changes."""
        await self._meet()
        intake = self._hub.intake
        while not self.outdated and (ahead := self._ahead()):
            with trio.move_on_after(_AHEAD_SECONDS) as scope:
                # Only what was ahead is looked at again: positions move often, and many may wait.
                while ahead := self._not_reached(ahead):
                    await intake.wait_moved()
            if scope.cancelled_caught:
                keys = list(self._ahead())
                bounds = await self._ask(partial(self._archive.bounds, keys))
                if self.outdated:
                    return
                cut = self._changes.cut
                judge_truncated(self._want, self.losses, self._ahead(), bounds, cut)
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
                # A client that had nothing of it has lost nothing.
                # The client may have unsubscribed meanwhile.
                if key not in bounds and highest.get(key, -1) >= 0:
                    self.losses.unknown(key, Span(0, -1))
            while any(intake.position(key) is None for key in bounds):
                await intake.wait_moved()
        gone = {key for key in unknown if intake.position(key) is None}
        self._want.forget(gone)
        # Those that come again are new.
        self._known -= gone

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


def _either(
    first: Callable[[Message], bool], second: Callable[[Message], bool], message: Message
) -> bool:
    return first(message) or second(message)


async def pause() -> None:
    """Wait before the log is asked again."""
    await trio.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 -- jitter, not a secret
