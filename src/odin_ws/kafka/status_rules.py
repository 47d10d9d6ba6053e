"""The rules that turn partition problems into the source status. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from odin_ws.kafka.partition import Partition, Problem
from odin_ws.kafka.source_status import SourceProblem
from odin_ws.records import TopicPartition

__all__ = ["Evaluation", "KnownProblems", "evaluate"]


# Leaders move within a second or two: shorter problems of a part of Kafka are not shown.
_MIN_PATIENCE: Final = 2.0


@attrs.frozen
class KnownProblems:
    """Problems other than failed fetches."""

    without_start_offset: Mapping[TopicPartition, Problem]
    """Partitions whose start offset is unknown."""
    held: Mapping[TopicPartition, Problem]
    """Partitions that are read late, because of an open transaction or a quota."""
    topics: Mapping[str, Problem]
    """Problems of whole topics."""
    up_since: float = -math.inf
    """When the feed last recovered as a whole (Trio's clock): remaining problems count from
    then."""
    shown: frozenset[TopicPartition] = frozenset()
    """Partitions whose problem was shown before the feed went down, and continues."""


@attrs.frozen
class Evaluation:
    """The result of the status rules."""

    problems: tuple[SourceProblem, ...]
    """The problems to show."""
    lasting: frozenset[TopicPartition]
    """The partitions whose problem has lasted."""
    stalled_topics: frozenset[str]
    """The topics of the partitions in `lasting`."""
    all_down: str | None
    """The reason if no partition is read any more; None otherwise."""
    all_begun: bool
    """True if each partition is read, or has a problem that has lasted."""


def evaluate(
    partitions: Iterable[Partition], known_problems: KnownProblems, now: float, patience: float
) -> Evaluation:
    """Evaluate a source's partitions at a time of Trio's clock.

    `patience`: seconds for which a problem may last before it is shown; at least two for a part of
    Kafka.
    """
    without_start_offset, held = known_problems.without_start_offset, known_problems.held
    assigned = list(partitions)
    topics = {
        name: problem
        for name, problem in known_problems.topics.items()
        if now - problem.since >= patience
    }
    troubled = {
        partition.key: partition.problem for partition in assigned if partition.problem is not None
    } | dict(without_start_offset)
    lasting = {
        key: problem
        for key, problem in troubled.items()
        if key in known_problems.shown
        or now - max(problem.since, known_problems.up_since) >= max(patience, _MIN_PATIENCE)
    }
    down = [problem for problem in troubled.values() if now - problem.since >= patience]
    total = len(assigned) + len(without_start_offset)
    reasons = Counter(problem.reason for problem in (*down, *topics.values()))
    is_down = len(down) == total and bool(reasons)
    problems = _grouped(lasting | {key: held[key] for key in held.keys() - lasting.keys()})
    problems += [
        SourceProblem(topic, (), problem.reason, problem.since) for topic, problem in topics.items()
    ]
    return Evaluation(
        tuple(sorted(problems, key=lambda problem: (problem.topic, problem.partitions))),
        frozenset(lasting),
        frozenset(key.topic for key in lasting),
        reasons.most_common(1)[0][0] if is_down else None,
        all(partition.has_fetched or partition.key in lasting for partition in assigned)
        and without_start_offset.keys() <= lasting.keys()
        and known_problems.topics.keys() <= topics.keys(),
    )


def _grouped(problems: Mapping[TopicPartition, Problem]) -> list[SourceProblem]:
    """Return one entry per topic and problem, with its partitions."""
    groups: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for key, problem in problems.items():
        groups.setdefault((key.topic, problem.reason), []).append((key.partition, problem.since))
    return [
        SourceProblem(
            topic,
            tuple(sorted(number for number, _since in members)),
            reason,
            min(since for _number, since in members),
        )
        for (topic, reason), members in groups.items()
    ]
