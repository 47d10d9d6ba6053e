"""The start positions of subscribe, resume and reconnect commands."""

from __future__ import annotations

from collections.abc import Sequence

from odin_ws.history import ResumeCursor
from odin_ws.hub import PLAIN, Hub, SubscriptionOptions
from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.commands import Reconnect, Resume, Subscribe
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.records import TopicPartition
from odin_ws.resume import ResumeTopics, StartPosition

__all__ = ["start_position_of", "starts_of"]


def start_position_of(
    command: Subscribe | Resume,
    patterns: Sequence[str],
    hub: Hub,
    options: SubscriptionOptions = PLAIN,
) -> StartPosition:
    """Return the start position of a command's admitted patterns, the same for all."""
    if isinstance(command, Subscribe):
        since = command.since_ms
        resume_cursor = ResumeCursor.sharing(patterns, {})
        return StartPosition(
            resume_cursor, since, live=since is None, snapshot=command.snapshot, options=options
        )
    topics = hub.stream.catalogue.topics_of(patterns)
    positions = {key: at for key, at in command.positions.items() if key.topic in topics}
    resume_cursor = ResumeCursor.sharing(patterns, positions)
    ids = {topic: topic_id for topic, topic_id in command.ids.items() if topic in topics}
    return StartPosition(
        resume_cursor,
        snapshot=command.snapshot,
        resume_topics=ResumeTopics(command.topics, ids),
        options=options,
    )


def starts_of(command: Reconnect, hub: Hub) -> dict[str, dict[TopicPartition, int]]:
    """Return by pattern the positions of a reconnect. Raises CommandError."""
    if command.last_offsets is None:
        return {channel: dict(positions) for channel, positions in command.last_positions.items()}
    topics = hub.stream.catalogue.topics
    return {
        Pattern(ANY, topics[topic].category).text: {_only_partition(topic, command, hub): offset}
        for topic, offset in command.last_offsets.items()
    }


def _only_partition(topic: str, command: Reconnect, hub: Hub) -> TopicPartition:
    partitions = hub.stream.partitions_of([topic])[topic]
    if len(partitions) != 1:
        raise CommandError(
            ErrorCode.INVALID_MESSAGE,
            f"data.last_offset.{topic}: an offset is ambiguous, because the topic has "
            f"{len(partitions)} partitions; send last_pos, or resume with positions",
            command.id,
            command="reconnect",
        )
    return TopicPartition(topic, partitions[0])
