"""Monitors topic layout, lag and partition problems of a source; publishes its status."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import attrs
import structlog
import trio

from odin_ws.backoff import Backoff
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.fetcher import Fetcher
from odin_ws.kafka.offset_queries import list_offsets
from odin_ws.kafka.partition import Partition, Problem
from odin_ws.kafka.protocol import LATEST, TopicLayout
from odin_ws.kafka.source_status import SourceState, SourceStatus
from odin_ws.kafka.status_rules import Evaluation, KnownProblems, evaluate
from odin_ws.kafka.topic_layout import Layout
from odin_ws.records import TopicPartition

__all__ = ["Monitor", "renewed"]

log = structlog.get_logger("odin_ws.kafka")

# An error requests metadata at once; while errors continue, the interval grows.
_FIRST_REQUEST_SECONDS: Final = 0.2
_LAST_REQUEST_SECONDS: Final = 2.0

# The monitor evaluates problems when they begin and end, and periodically while one exists, because
# it is shown when it has lasted.
_EVALUATE_SECONDS: Final = 0.5

# A transaction usually takes well under a second; brokers abort one after a minute by default.
_TRANSACTION_SECONDS: Final = 5.0

# Limit of the stored ends of a partition: with the default interval of 5 s, ten minutes.
_MAX_ENDS: Final = 120

_HISTORY: Final = "reading records from before the start"

_HELD: Final = "an open transaction holds back the newest records"

_THROTTLED: Final = "a quota of the broker delays the fetches"


@attrs.define(eq=False)
class Monitor:
    """Requests layout and lag, and publishes the status from them and the fetcher's problems.

    Args:
        interval: seconds between two requests, and for which a problem may last unshown.
        positions: by partition the offset after the records of the hub, for the lag; it advances.
    """

    _source_status: SourceStatus
    _client: KafkaClient
    _fetcher: Fetcher
    _layout: Layout
    _interval: float
    _positions: Mapping[TopicPartition, int]
    started_ms: int | None = None
    """When the layout was first known, epoch ms."""
    layout_changed: trio.Event = attrs.field(factory=trio.Event)
    """Set, and replaced, when partitions appear."""
    history_ended: trio.Event = attrs.field(factory=trio.Event)
    """Set by the source; the status is not live before."""
    leaders: dict[TopicPartition, int | None] = attrs.field(factory=dict)
    """By partition the node id of its leader; None without one."""
    without_start_offset: dict[TopicPartition, Problem] = attrs.field(factory=dict)
    """Partitions whose start offset is unknown; the source and the group set it."""
    own_problem: Problem | None = None
    """What keeps the source as a whole from reading; the source and the group set it."""
    _cluster_problem: Problem | None = None
    _topic_problems: dict[str, Problem] = attrs.field(factory=dict)
    _held: dict[TopicPartition, Problem] = attrs.field(factory=dict)
    _up_since: float = -math.inf
    _reasons: set[str] = attrs.field(factory=set)
    _shown: frozenset[TopicPartition] = frozenset()
    # By partition its end, as its leader last reported.
    _ends: dict[TopicPartition, int] = attrs.field(factory=dict)
    # By partition the earlier ends that the hub has not reached, each with the time of the probe.
    _unreached: dict[TopicPartition, deque[tuple[int, float]]] = attrs.field(factory=dict)

    async def run(self) -> None:
        """Monitor until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_layout)
            nursery.start_soon(self._measure_lag)
            nursery.start_soon(self._evaluate_periodically)

    def request_metadata(self) -> None:
        """Request metadata soon, because a leader does not lead any more."""
        self._fetcher.metadata_requested.set()

    # ---- the layout

    async def _watch_layout(self) -> None:
        """Request the topics' layout periodically, and at once if it may have changed."""
        # The end of a problem must be noticed before the problem is shown.
        backoff = Backoff(_FIRST_REQUEST_SECONDS, min(_LAST_REQUEST_SECONDS, self._interval / 4))
        topics = sorted(self._layout.topics)
        while True:
            self._fetcher.metadata_requested = trio.Event()
            requested_at = trio.current_time()
            try:
                metadata = await self._client.metadata(topics)
                if not any(topic.partitions for topic in metadata.topics.values()):
                    await self._probe_brokers()
            except KafkaUnavailable as failure:
                self._cluster_problem = renewed(str(failure), self._cluster_problem)
                self._fetcher.miss_metadata(str(failure))
                self._fetcher.troubled.set()
            else:
                self._cluster_problem = None
                before = self.leaders
                self._take_layout(metadata.topics, requested_at)
                if self.leaders != before or not self._has_trouble:
                    backoff.reset()
                if self._has_young_problem:
                    self.request_metadata()
                with trio.move_on_after(self._interval):
                    await self._fetcher.metadata_requested.wait()
            await trio.sleep(backoff.next())

    async def _probe_brokers(self) -> None:
        """Probe the advertised addresses of the brokers: without partitions no fetch does.

        Raises KafkaUnavailable if no broker responds.
        """
        failures = await self._client.unreachable()
        if failures and len(failures) == len(self._client.brokers):
            raise KafkaUnavailable("; ".join(failures))

    def _take_layout(self, topics: Mapping[str, TopicLayout], requested_at: float) -> None:
        change = self._layout.update(topics, trio.current_time())
        self.leaders = {
            TopicPartition(name, number): partition.leader
            for name, topic in topics.items()
            for number, partition in topic.partitions.items()
        }
        self._fetcher.apply(topics, self._layout.suspended, requested_at)
        self._fetcher.restart(change.recreated)
        self._topic_problems = {
            topic: renewed(reason, self._topic_problems.get(topic))
            for topic, reason in self._layout.problems.items()
        }
        self._source_status.set_missing_topics(self._layout.missing)
        is_first = self.started_ms is None
        if is_first:
            self.started_ms = int(time.time() * 1000)
        elif change.appeared:
            log.info("topic layout changed", partitions=len(self._layout.partitions))
        if is_first or change.appeared or change.recreated:
            self.layout_changed.set()
            self.layout_changed = trio.Event()
        self._fetcher.troubled.set()

    @property
    def _has_trouble(self) -> bool:
        partitions = self._fetcher.partitions.values()
        return bool(self.without_start_offset or self._topic_problems) or any(
            partition.problem is not None for partition in partitions
        )

    @property
    def _is_unsettled(self) -> bool:
        """True if the evaluation may change because time has passed."""
        return bool(
            self._has_trouble
            or self._held
            or self._fetcher.broker_states.throttled
            or self._cluster_problem
            or self.own_problem
            or self._shown
            or self._source_status.state.value is not SourceState.LIVE
        )

    @property
    def _has_young_problem(self) -> bool:
        """True if the next response may end a topic's problem before it is shown."""
        now = trio.current_time()
        return any(
            now - problem.since < self._interval for problem in self._topic_problems.values()
        )

    # ---- the lag

    async def _measure_lag(self) -> None:
        """Request the end offsets from the leaders, each for its partitions."""
        while True:
            await trio.sleep(self._interval)
            wanted = dict.fromkeys(self._fetcher.partitions, LATEST)
            ends = await list_offsets(self._client, wanted, self.leaders)
            # If a leader does not respond, its last end offsets remain.
            self._ends |= ends.found
            self._publish_lag()
            self._measure_delay()

    def _measure_delay(self) -> None:
        """Measure for how long published records have not been read."""
        now = trio.current_time()
        partitions = self._fetcher.partitions
        before, self._unreached = self._unreached, {}
        for key, partition in partitions.items():
            if partition.is_held or partition.problem is not None:
                continue
            end = self._end_of(key, partition)
            position = self._positions.get(key, end)
            if position >= end:
                continue
            # A truncation may have removed the records before an earlier end.
            ends = before.get(key, ())
            unreached = deque(probe for probe in ends if position < probe[0] <= end)
            if len(unreached) < _MAX_ENDS:
                unreached.append((end, now))
            self._unreached[key] = unreached
        self._source_status.behind_seconds = max(
            (now - unreached[0][1] for unreached in self._unreached.values()), default=0.0
        )

    def _end_of(self, key: TopicPartition, partition: Partition) -> int:
        return max(self._ends.get(key, -1), partition.high_watermark)

    def _publish_lag(self) -> None:
        lag: dict[str, int] = {}
        for key, partition in self._fetcher.partitions.items():
            end = self._end_of(key, partition)
            behind = end - self._positions.get(key, end)
            lag[key.topic] = lag.get(key.topic, 0) + max(0, behind)
        self._source_status.lag = lag

    # ---- the status

    async def _evaluate_periodically(self) -> None:
        while True:
            self._fetcher.troubled = trio.Event()
            self._publish(self._evaluate())
            usual = self._interval / 2
            seconds = min(_EVALUATE_SECONDS, usual) if self._is_unsettled else usual
            with trio.move_on_after(seconds):
                await self._fetcher.troubled.wait()

    def _evaluate(self) -> Evaluation:
        now = trio.current_time()
        self._held = {
            key: self._held.get(key) or Problem(_HELD, now)
            for key, partition in self._fetcher.partitions.items()
            if partition.is_held
        }
        held = {
            key: problem
            for key, problem in self._held.items()
            if now - problem.since >= _TRANSACTION_SECONDS
        }
        self._source_status.held_partitions = len(held)
        known_problems = KnownProblems(
            self.without_start_offset,
            self._throttled(now) | held,
            self._topic_problems,
            self._up_since,
            self._shown,
        )
        return evaluate(self._fetcher.partitions.values(), known_problems, now, self._interval)

    def _throttled(self, now: float) -> dict[TopicPartition, Problem]:
        """Return the partitions whose broker has delayed their fetches for a while."""
        fetcher = self._fetcher
        lasting = {
            node: Problem(_THROTTLED, since)
            for node, since in fetcher.broker_states.throttled.items()
            if now - since >= self._interval
        }
        return {
            key: lasting[partition.leader]
            for key, partition in fetcher.partitions.items()
            if partition.leader in lasting
        }

    def _publish(self, evaluation: Evaluation) -> None:
        source_status = self._source_status
        down = evaluation.all_down or self._down_as_a_whole()
        if source_status.state.value is SourceState.STARTING:
            knows_layout = self.started_ms is not None
            reason = down or self._first_reason()
            if reason is not None and not (down is None and evaluation.all_begun):
                self._fail(SourceState.STARTING, reason)
            elif not self.history_ended.is_set():
                source_status.transition(
                    SourceState.STARTING, _HISTORY if knows_layout else source_status.reason
                )
            elif knows_layout and evaluation.all_begun:
                self._publish_lag()
                source_status.transition(SourceState.LIVE)
        elif down is None:
            if source_status.state.value is SourceState.STALLED:
                self._up_since = trio.current_time()
                evaluation = self._evaluate()
            source_status.transition(SourceState.LIVE)
        else:
            self._fail(SourceState.STALLED, down)
        is_live = source_status.state.value is SourceState.LIVE
        if is_live:
            self._reasons.clear()
            self._shown = evaluation.lasting
            source_status.stalled_topics.value = evaluation.stalled_topics
        source_status.report_problems(evaluation.problems, quiet=not is_live)

    def _down_as_a_whole(self) -> str | None:
        """Return why nothing can be read at all; once live, only if that has lasted."""
        problem = self.own_problem
        if problem is None and not self._layout.partitions:
            # With partitions, the fetches show the state.
            problem = self._cluster_problem
        if problem is None:
            return None
        lasted = trio.current_time() - problem.since >= self._interval
        is_live = self._source_status.state.value is SourceState.LIVE
        return problem.reason if lasted or not is_live else None

    def _first_reason(self) -> str | None:
        """Return the problem at the start, before it has lasted."""
        problems = [
            *(partition.problem for partition in self._fetcher.partitions.values()),
            *self.without_start_offset.values(),
            *self._topic_problems.values(),
        ]
        return next((problem.reason for problem in problems if problem is not None), None)

    def _fail(self, status: SourceState, reason: str) -> None:
        """Set the reason why nothing is read; logs each reason once until the feed is live."""
        self._source_status.transition(status, reason)
        if reason not in self._reasons:
            self._reasons.add(reason)
            log.warning(
                "Kafka unavailable, retrying", brokers=self._client.addresses, reason=reason
            )


def renewed(reason: str, before: Problem | None) -> Problem:
    """Return a problem with the current reason and the time at which problems began."""
    return Problem(reason, trio.current_time() if before is None else before.since)
