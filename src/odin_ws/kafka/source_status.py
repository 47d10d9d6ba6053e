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
    """The state of the feed. Only in `live` new records are delivered."""

    STARTING = "starting"  # not connected to the broker yet
    LIVE = "live"  # a probe of the broker succeeded, and its records are being read
    STALLED = "stalled"  # was live; the broker does not respond, or its records do not arrive
    STOPPED = "stopped"  # the source has ended


_EVENTS = {state: f"feed is {state}" for state in SourceState}


@attrs.frozen
class SourceProblem:
    """Why partitions of a topic are not read; the whole topic if `partitions` is empty.

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
    """The status of a source. Tasks can wait for a change of `state` or `stalled_topics`."""

    state: AsyncValue[SourceState] = attrs.field(factory=lambda: AsyncValue(SourceState.STARTING))
    since: float = attrs.field(factory=trio.current_time)
    """When the state last changed: Trio's clock, seconds."""
    reason: str = "not connected yet"
    paced: bool = False
    lag: Mapping[str, int] = attrs.field(factory=dict)
    """By topic the number of the broker's records that were not read yet, at the last probe."""
    behind_seconds: float = 0.0
    """How old the oldest record is, at least, that was published and not read yet; at the last
    probe, without records that a transaction or a shown problem holds back."""
    missing_topics: frozenset[str] = frozenset()
    problems: Sequence[SourceProblem] = ()
    """Topics or partitions that are not read while the others are live."""
    stalled_topics: AsyncValue[frozenset[str]] = attrs.field(
        factory=lambda: AsyncValue(frozenset[str]())
    )
    """Topics with partitions whose problem has lasted; subscribers get a notice."""
    _reported: frozenset[str] = frozenset()
    lost_records: int = 0
    held_partitions: int = 0
    """The number of partitions whose newest records an open transaction holds back."""

    def transition(self, state: SourceState, reason: str = "") -> None:
        """Change the state; logs a change once, a repetition only updates the reason."""
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
        """Set the topics of the catalogue that do not exist; logs a change once."""
        if topics != self.missing_topics:
            self.missing_topics = topics
            if topics:
                log.warning("topics missing", topics=sorted(topics))
            else:
                log.info("all topics exist")

    def report_problems(self, problems: Sequence[SourceProblem], *, quiet: bool = False) -> None:
        """Set the problems; logs the begin and end of each topic's problem once.

        `quiet`: do not log, because nothing is read and that is logged already.
        """
        self.problems = problems
        if quiet:
            return
        now = {problem.topic: problem for problem in problems}
        for topic in now.keys() - self._reported:
            log.warning("partitions unavailable", problem=str(now[topic]))
        for topic in self._reported - now.keys():
            log.info("partitions available again", topic=topic)
        self._reported = frozenset(now)
