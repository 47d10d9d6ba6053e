"""The source status that health, metrics and clients see: starting, live, stalled, stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import attrs
import structlog
import trio
from trio_util import AsyncValue

__all__ = ["SourceProblem", "SourceState", "SourceStatus"]

log = structlog.get_logger("odin_ws.feed")


class SourceState(StrEnum):
    """How the feed is doing. Only `live` means that records published now arrive."""

    STARTING = "starting"  # not connected to the broker yet
    LIVE = "live"  # a bounded probe of the broker succeeded, and what it has is being read
    STALLED = "stalled"  # it was live; the broker does not answer, or its records do not come
    STOPPED = "stopped"  # the source has ended


_EVENTS = {state: f"feed is {state}" for state in SourceState}


@attrs.frozen
class SourceProblem:
    """Why some partitions of a topic are not read; all of it where `partitions` is empty.

    `since`: Trio's clock, seconds.
    """

    topic: str
    partitions: tuple[int, ...]
    reason: str
    since: float = attrs.field(eq=False)

    def __str__(self) -> str:
        which = f" {', '.join(map(str, self.partitions))}" if self.partitions else ""
        return f"{self.topic}{which}: {self.reason}"


@attrs.define(eq=False)
class SourceStatus:
    """The status of a source.

    `state` can be waited on. `since` is when it took its value (trio's clock, seconds).
    `lag`: records the broker has that were not read yet, by topic, at the last probe.
    `problems`: the topics or partitions not read while the rest is live. `stalled_topics`: topics
    with partitions whose trouble has lasted, which subscribers are told; can be waited on.
    `held_partitions`: partitions whose newest records an open transaction holds back.
    """

    state: AsyncValue[SourceState] = attrs.field(factory=lambda: AsyncValue(SourceState.STARTING))
    since: float = attrs.field(factory=trio.current_time)
    reason: str = "not connected yet"
    paced: bool = False
    lag: Mapping[str, int] = attrs.field(factory=dict)
    missing_topics: frozenset[str] = frozenset()
    problems: Sequence[SourceProblem] = ()
    stalled_topics: AsyncValue[frozenset[str]] = attrs.field(
        factory=lambda: AsyncValue(frozenset[str]())
    )
    _reported: frozenset[str] = frozenset()
    lost_records: int = 0
    held_partitions: int = 0

    def transition(self, state: SourceState, reason: str = "") -> None:
        """Take a status; a change is logged once, a repetition only renews the reason."""
        self.reason = reason
        if state is self.state.value:
            return
        self.since = trio.current_time()
        self.state.value = state
        if state is SourceState.STALLED:
            log.warning(_EVENTS[state], reason=reason)
        else:
            log.info(_EVENTS[state])

    def set_missing_topics(self, topics: frozenset[str]) -> None:
        """Say which topics of the catalogue do not exist; a change is logged once."""
        if topics != self.missing_topics:
            self.missing_topics = topics
            if topics:
                log.warning("topics missing", topics=sorted(topics))
            else:
                log.info("all topics exist")

    def report_problems(self, problems: Sequence[SourceProblem], *, quiet: bool = False) -> None:
        """Say what is not read; that a topic's trouble begins and ends is logged, once each.

        `quiet`: not now, for nothing is read, and that is said already.
        """
        self.problems = problems
        if quiet:
            return
        now = {one.topic: one for one in problems}
        for topic in now.keys() - self._reported:
            log.warning("partitions unavailable", problem=str(now[topic]))
        for topic in self._reported - now.keys():
            log.info("partitions available again", topic=topic)
        self._reported = frozenset(now)
