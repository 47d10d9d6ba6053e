"""The responses of a command that starts a replay: ack, replay_incomplete, replay_complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from odin_ws.hub import Hub, Subscriber
from odin_ws.protocol.commands import Reconnect, Resume, Subscribe
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.responses import (
    Accepted,
    Lost,
    Replayed,
    reconnect_ack,
    replay_complete,
    replay_incomplete,
    resume_ack,
    subscription_ack,
)
from odin_ws.protocol.selection import RejectedName
from odin_ws.records import TopicPartition
from odin_ws.resume.start_position import StartPosition

__all__ = ["ReplayResponses", "Responder"]


class Responder(Protocol):
    """Sends responses to the client."""

    def respond(self, payload: bytes) -> None:
        """Send a response after all pending messages."""
        ...

    def reject_command(self, error: CommandError) -> None:
        """Respond with an error."""
        ...

    def charge(self, messages: int) -> None:
        """Charge a command for its messages, whose number is known only afterwards."""
        ...

    def went_live(self, topics: Sequence[str]) -> None:
        """Note that all pending messages of these topics were sent: later ones are live."""
        ...

    def count_rejected_names(self, names: Iterable[RejectedName]) -> None:
        """Count rejected names; the response has the reasons."""
        ...


@attrs.define
class ReplayResponses:
    """The responses to a command that starts a replay.

    `names` (with their patterns) and `rejected`: as the client wrote them.
    `topics`: the topics of the names.
    `on_begun`: applies the command's other options.
    `has_other_subscriptions`: whether the client has live subscriptions beside the replay.
    """

    command: Subscribe | Resume | Reconnect
    start_position: StartPosition
    names: Mapping[str, Sequence[str]]
    rejected: Sequence[RejectedName]
    topics: Sequence[str]
    hub: Hub
    subscriber: Subscriber
    responder: Responder
    on_begun: Callable[[], None]
    has_other_subscriptions: bool
    _announced: int | None = None

    def begun(self, replayed: Replayed, start: Mapping[TopicPartition, int]) -> None:
        """Send the ack: the number of replayed messages, the start of the replay, and losses."""
        command, dialect = self.command, self.subscriber.form.dialect
        self._announced = replayed.messages
        # The ack's positions must be the client's, also with messages delayed by a rate.
        self.hub.settle(self.subscriber)
        self.on_begun()
        # The start: a client that disconnects before the end can resume from there.
        begins = self.hub.stream.positions_of(self.topics)
        for key, offset in start.items():
            begins.setdefault(key.topic, {})[key.partition] = offset
        if isinstance(command, Reconnect):
            ack = reconnect_ack(command.id, replayed)
        elif isinstance(command, Resume):
            for topic, spans in ({} if replayed.lost is None else replayed.lost.spans).items():
                for partition, span in spans.items() if self._is_same(command, topic) else ():
                    # A partition that does not exist has no other position.
                    begins.setdefault(topic, {}).setdefault(partition, span.last)
            # With other subscriptions the client may be further than its positions say.
            if not self.has_other_subscriptions:
                self._remove_known(command, replayed, begins)
            ack = resume_ack(command.id, dialect, self._accepted(begins), replayed)
        else:
            positions = begins if command.positions else None
            past = None if self.start_position.is_live else replayed
            ack = subscription_ack(command.id, dialect, self._accepted(positions), past)
        self.responder.respond(ack)

    def lost(self, count: int, lost: Lost) -> None:
        """Report lost records before the messages after them."""
        self.responder.respond(replay_incomplete(self.command.id, count, lost))

    def ended(self, count: int) -> None:
        """Report the number of messages, unless the ack had it.

        Messages of other subscriptions may have overtaken those of the replay. So a client with
        others gets the end of every replay, with positions.
        """
        self.responder.charge(count)
        self.responder.went_live(self.topics)
        hub, has_other_subscriptions = (
            self.hub,
            self.has_other_subscriptions and not isinstance(self.command, Reconnect),
        )
        if count == self._announced and not has_other_subscriptions:
            return
        positions = ids = None
        if has_other_subscriptions and self.subscriber.wants_positions:
            topics = hub.topics_of(self.subscriber)
            positions, ids = hub.stream.positions_of(topics), hub.stream.ids_of(topics)
        self.responder.respond(replay_complete(self.command.id, count, positions, ids))

    def _remove_known(
        self, command: Resume, replayed: Replayed, positions: dict[str, dict[int, int]]
    ) -> None:
        """Remove the positions that the client has sent: the ack need not repeat them.

        Positions of partitions with losses, and of all partitions of a recreated topic, remain; so
        do topics of which the client sent no position, even if they are empty.
        """
        lost = {} if replayed.lost is None else replayed.lost.spans
        same = {topic: self._is_same(command, topic) for topic in positions}
        known: set[str] = set()
        for (topic, partition), offset in command.positions.items():
            if same.get(topic) and partition not in lost.get(topic, ()):
                known.add(topic)
                if positions[topic].get(partition) == offset:
                    del positions[topic][partition]
        for topic in known:
            if not positions[topic]:
                del positions[topic]

    def _is_same(self, command: Resume, topic: str) -> bool:
        """Return whether the client's id of a topic is the hub's; True if the client sent none."""
        return command.ids.get(topic) in {None, self.hub.stream.ids_of([topic]).get(topic)}

    def _accepted(self, positions: Mapping[str, Mapping[int, int]] | None) -> Accepted:
        hub, topics = self.hub, self.topics
        # Some may have been unsubscribed during the request to the log.
        patterns = self.subscriber.patterns.union(self.start_position.resume_cursor.patterns)
        return Accepted(
            [
                name
                for name, name_patterns in self.names.items()
                if not patterns.isdisjoint(name_patterns)
            ],
            self.rejected,
            len(patterns),
            positions,
            hub.stream.partitions_of(topics) if hub.stream.is_partial else None,
            hub.stream.categories_of(topics) if positions is not None else None,
            hub.stream.ids_of(topics) or None if positions is not None else None,
        )
