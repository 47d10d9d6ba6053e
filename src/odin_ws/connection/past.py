"""A command whose subscriptions begin in the past: its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from odin_ws.hub import Hub, Subscriber
from odin_ws.protocol.answers import (
    Accepted,
    Lost,
    Replayed,
    reconnect_ack,
    replay_complete,
    replay_incomplete,
    resume_ack,
    subscription_ack,
)
from odin_ws.protocol.commands import Reconnect, Resume, Subscribe
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.selection import Rejection
from odin_ws.records import TopicPartition
from odin_ws.resume import Beginning

__all__ = ["Answers", "Past"]


class Answers(Protocol):
    """Who speaks to the client."""

    def answer(self, payload: bytes) -> None:
        """Answer, after everything that is due."""
        ...

    def refuse(self, error: CommandError) -> None:
        """Answer with an error."""
        ...

    def reject(self, names: Iterable[Rejection]) -> None:
        """Count names that do not take effect; the answer says why."""
        ...


@attrs.frozen
class Past:
    """What a command asks for, and how it is told how that goes. See resume.Listener.

    `names` (with their patterns) and `rejected`: of the command's, as the client wrote them.
    `topics`: what the names read.
    `settle`: what else takes effect with them.
    """

    command: Subscribe | Resume | Reconnect
    beginning: Beginning
    names: Mapping[str, Sequence[str]]
    rejected: Sequence[Rejection]
    topics: Sequence[str]
    hub: Hub
    subscriber: Subscriber
    answers: Answers
    settle: Callable[[], None]

    def begun(self, replayed: Replayed, start: Mapping[TopicPartition, int]) -> None:
        """Say what follows."""
        command, dialect = self.command, self.subscriber.dialect
        self.settle()
        # Where it begins: whoever is cut off before the end of it can resume from there.
        begins = self.hub.positions(self.topics)
        for key, offset in start.items():
            begins.setdefault(key.topic, {})[key.partition] = offset
        if isinstance(command, Reconnect):
            ack = reconnect_ack(command.id, replayed)
        elif isinstance(command, Resume):
            # Only what the client does not know: the others are where it said.
            news = _without(command.positions, begins)
            ack = resume_ack(command.id, dialect, self._accepted(news), replayed)
        else:
            positions = begins if command.positions else None
            ack = subscription_ack(command.id, dialect, self._accepted(positions), replayed)
        self.answers.answer(ack)

    def lost(self, count: int, lost: Lost) -> None:
        """Say what was lost on the way, before what is behind it comes."""
        self.answers.answer(replay_incomplete(self.command.id, count, lost))

    def ended(self, count: int) -> None:
        """Say how many messages it was."""
        self.answers.answer(replay_complete(self.command.id, count))

    def _accepted(self, positions: Mapping[str, Mapping[int, int]] | None) -> Accepted:
        hub, topics = self.hub, self.topics
        # Some may have been unsubscribed while the log was asked.
        patterns = self.subscriber.patterns.union(self.beginning.want.patterns)
        return Accepted(
            [name for name, several in self.names.items() if not patterns.isdisjoint(several)],
            self.rejected,
            len(patterns),
            positions,
            hub.partitions(topics) if hub.partial else None,
            hub.categories(topics) if positions is not None else None,
        )


def _without(
    known: Mapping[TopicPartition, int], positions: Mapping[str, Mapping[int, int]]
) -> dict[str, dict[int, int]]:
    """The positions that are not known, topics without one left out."""
    found = {}
    for topic, partitions in positions.items():
        news = {
            partition: offset
            for partition, offset in partitions.items()
            if known.get(TopicPartition(topic, partition)) != offset
        }
        if news:
            found[topic] = news
    return found
