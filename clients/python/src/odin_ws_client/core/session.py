"""The client's protocol state without I/O: commands to send, meaning of responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import orjson

from odin_ws_client.core.batch_text import BatchText
from odin_ws_client.core.close_codes import LONGEST_WAIT, VIOLATION, Unacceptable
from odin_ws_client.core.errors import RejectedName, SubscriptionRejected
from odin_ws_client.core.fields import (
    by_partition,
    count_lost,
    read_ids,
    read_range,
    read_unsubscribed,
    retry_seconds,
)
from odin_ws_client.core.items import (
    Checkpoint,
    FeedChange,
    Ids,
    Item,
    Lost,
    Message,
    Positions,
    Resumed,
    Subscribed,
)
from odin_ws_client.core.json_text import load_json
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.subscription import Subscription

__all__ = ["HEARTBEAT", "Counts", "ProtocolSession", "Text", "auth_command"]

HEARTBEAT: Final = '{"type":"heartbeat"}'

# What asks for the subscription has this id; other commands have none.
_ID: Final = 1

_NOT_UTF8: Final = 1007

_TOO_MANY_COMMANDS: Final = "RATE_LIMIT_EXCEEDED"

# As it came; whoever reads it checks that it is UTF-8.
Text = bytes | bytearray


@attrs.define
class Counts:
    """What a client has met so far, over all its connections."""

    connections: int = 0  # on which a subscription took effect
    duplicates: int = 0  # messages that had come before; they were passed over
    gaps: int = 0  # sequence numbers that did not come; the connection was given up for them
    skipped: int = 0  # messages that the server said it left out
    lost: int = 0  # offsets that the server said it could not bring any more


class ProtocolSession:
    """One connection. `offset_tracker` moves with what is received; who has positions resumes.

    `left_at`: when the last connection ended, on the clock of `take`. `snapshot_due`: a snapshot is
    wanted, and has not come whole yet.
    """

    def __init__(
        self,
        subscription: Subscription,
        offset_tracker: OffsetTracker,
        counts: Counts,
        left_at: float | None,
        *,
        snapshot_due: bool = False,
    ) -> None:
        self.snapshot_due = snapshot_due
        self.retry_in: float | None = None  # seconds after which a put off command is sent again
        self.accepted = False  # the subscription has taken effect
        self.put_off = False  # the server wants to be asked again later
        self.advice: float | None = None  # the server asks to come back after so many seconds
        # Another token is wanted before that, on the clock of `take`; for others to take away.
        self.token_ends_at: float | None = None
        # The server wants a rejected token after so many seconds again; for `token_ends_at`.
        self.token_retry_in: float | None = None
        self.token_taken = False  # the server has said so; for others to take away
        self._last_end: float | None = None  # of the token that it stands on, where that was told
        self._subscription = subscription
        self._offset_tracker = offset_tracker
        self._counts = counts
        self._left_at = left_at
        self._resuming = bool(offset_tracker)
        self._with_snapshot = snapshot_due
        self._to_replay: int | None = (
            None  # how many replayed messages are to come, if that is known
        )
        self._topics: Mapping[str, str] = {}
        self._seq = 0

    @property
    def asked(self) -> bool:
        """Whether an answer to our command is due."""
        return not (self.accepted or self.put_off)

    def command(self) -> str:
        """What to send first, and again where it was put off."""
        self.put_off = False
        data = self._subscription.names() | {"frames": "batch"}
        if self._resuming:
            positions = self._offset_tracker.positions()
            data["positions"] = {
                topic: {str(partition): offset for partition, offset in partitions.items()}
                for topic, partitions in positions.items()
            }
            if ids := {
                topic: one
                for topic, one in self._offset_tracker.ids().items()
                if topic in positions
            }:
                data["ids"] = ids
            if self._with_snapshot:
                data["snapshot"] = True
        else:
            data |= self._subscription.beginning()
            data["positions"] = True
        kind = "resume" if self._resuming else "subscribe"
        return orjson.dumps({"type": kind, "id": _ID, "data": data}).decode()

    def take(self, text: Text, now: float) -> Iterator[Item | Checkpoint]:
        """What the server has sent, as far as the consumer should know of it.

        Raises Unacceptable where it is not the protocol or messages are missing before it, and
        SubscriptionRejected.
        """
        try:
            fields = load_json(text)
            if fields["type"] == "batch":
                yield from self._batch(fields, text)
                return
            is_message = fields["type"] == "message"
            item = self._message(fields, text) if is_message else self._notice(fields, now)
        except UnicodeDecodeError as error:
            raise Unacceptable(_NOT_UTF8, str(error), permanent=False) from error
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            # Whatever has another shape than it should shows as one of these.
            why = f"{type(error).__name__}: {error} in {text[:80].decode(errors='replace')!r}"
            raise Unacceptable(VIOLATION, why, permanent=True) from error
        if item is not None:
            yield item

    def _batch(self, fields: dict[str, Any], text: Text) -> Iterator[Message]:
        """The messages of a batch that did not come before."""
        seq, replay = int(fields["seq"]), fields.get("replay") is True
        ahead = fields.get("ahead") is True
        source = BatchText(text, seq, replay=replay, ahead=ahead)
        first = {"skipped": fields.get("skipped", 0)}
        for number, body in enumerate(fields["messages"], seq):
            message = self._message(
                body | {"seq": number, "replay": replay, "ahead": ahead} | first, source
            )
            first = {}
            if message is not None:
                yield message

    def _message(self, fields: dict[str, Any], text: Text | BatchText) -> Message | None:
        partition, _, offset = fields["pos"].partition("-")
        channel: str = fields["channel"]
        message = Message(
            channel,
            self._topics[channel.rpartition(".")[2]],
            int(partition),
            int(offset),
            int(fields["ts"]),
            int(fields["seq"]),
            fields.get("replay") is True,
            int(fields.get("skipped", 0)),
            fields["data"],
            text,
            fields.get("ahead") is True,
            fields.get("headers"),
        )
        self._count(message)
        if message.replay and self._to_replay:
            self._to_replay -= 1
            self.snapshot_due &= self._to_replay > 0
        if self._offset_tracker.advance(message) or self._is_snapshot(message):
            return message
        self._counts.duplicates += 1
        return None

    def _count(self, message: Message) -> None:
        missing = message.seq - (self._seq + 1 + message.skipped)
        if missing:
            # Taking it would move the position past what is missing: on a new connection it comes.
            self._counts.gaps += max(1, missing)
            why = f"message {message.seq} came after {self._seq}, with {message.skipped} skipped"
            raise Unacceptable(VIOLATION, why, permanent=False)
        self._counts.skipped += message.skipped
        self._seq = message.seq

    def _is_snapshot(self, message: Message) -> bool:
        return message.replay and self._with_snapshot

    def _notice(self, fields: dict[str, Any], now: float) -> Item | Checkpoint | None:
        match fields["type"]:
            case "auth" if fields["status"] == "expiring":
                seconds = float(fields["expires_in_ms"]) / 1000
                self.token_ends_at = self._last_end = now + min(seconds, LONGEST_WAIT)
                self.token_retry_in = None
            case "auth_ack":
                self.token_taken, self._last_end = True, None
            case "auth_error":
                self.token_ends_at = self._last_end
                self.token_retry_in = retry_seconds(fields["data"])
            case "unsubscription_ack" if fields.get("forced") is True:
                return read_unsubscribed(fields)
            case _:
                return self._notice_of_another_kind(fields, now)
        return None

    def _notice_of_another_kind(
        self, fields: dict[str, Any], now: float
    ) -> Item | Checkpoint | None:
        match fields["type"]:
            case "subscription_ack" | "resume_ack" if self.asked:
                return self._accept(fields, now)
            case "error":
                self._take_error(fields)
            case "replay_incomplete" if self.accepted and "lost" in fields:
                return self._lose_of_replay(fields)
            case "feed" if fields["status"] == "lost":
                return self._lose_of_feed(fields)
            case "feed":
                return FeedChange(str(fields["status"]), fields.get("since"))
            case "positions" | "replay_complete":
                return self._reach(fields)
            case "reconnect":
                seconds = float(fields["data"]["after_ms"]) / 1000
                self.advice = min(max(0.0, seconds), LONGEST_WAIT)
            case _ if "seq" in fields:
                raise ValueError("a message of another kind")  # version 0's have no position
            case _:
                pass  # pong, and what a newer server may have to say
        return None

    def _reach(self, fields: dict[str, Any]) -> Checkpoint | None:
        if fields["type"] == "replay_complete":
            self.snapshot_due = False
            if "positions" not in fields:
                return None
        reached = Checkpoint(by_partition(fields["positions"], int), read_ids(fields))
        self._offset_tracker.follow(reached)
        return reached

    def _accept(self, fields: dict[str, Any], now: float) -> Subscribed | Resumed:
        names = tuple(fields["subscribed"])
        rejected = tuple(
            RejectedName(str(one["name"]), str(one["code"]), str(one["message"]))
            for one in fields.get("rejected", ())
        )
        if not names:
            code = rejected[0].code if rejected else ""
            raise SubscriptionRejected(code, "the server rejected every name", rejected)
        self._topics = {str(name): str(topic) for name, topic in fields["categories"].items()}
        positions = by_partition(fields.get("positions", {}), int)
        lost = by_partition(fields.get("lost", {}), read_range)
        ids = read_ids(fields)
        item: Subscribed | Resumed = Subscribed(names, rejected, positions, ids)
        # A subscription that begins at a time may find some of it gone.
        if self._resuming or lost:
            for topic, partitions in lost.items():
                ends = {partition: last for partition, (_, last) in partitions.items()}
                positions[topic] = ends | positions.get(topic, {})
            away = None if self._left_at is None else now - self._left_at
            item = Resumed(
                recovered=not lost,
                replayed=fields["replayed"],
                lost=lost,
                reason=str(fields.get("reason", "")),
                seconds_away=away,
                names=names,
                rejected=rejected,
                positions=positions,
                ids=ids,
            )
            self._counts.lost += count_lost(lost)
        self._offset_tracker.follow(item)
        self._counts.connections += 1
        self._to_replay = fields.get("replayed")
        self.snapshot_due &= self._to_replay != 0
        self.accepted = True
        return item

    def _take_error(self, fields: dict[str, Any]) -> None:
        # What was ignored is not said: an `auth`, perhaps.
        if fields.get("code") == _TOO_MANY_COMMANDS:
            self.token_ends_at = self._last_end
            self.token_retry_in = retry_seconds(fields)
        if self.asked and fields.get("id", _ID) == _ID:
            self._reject(fields)

    def _reject(self, fields: dict[str, Any]) -> None:
        if not fields.get("retry", False):
            raise SubscriptionRejected(str(fields["code"]), str(fields["message"]))
        self.put_off = True
        self.retry_in = retry_seconds(fields)

    def _lose_of_replay(self, fields: dict[str, Any]) -> Resumed:
        """Kafka has deleted some of a long replay before it was its turn."""
        lost = by_partition(fields["lost"], read_range)
        # It is said at the replay's end, when what follows the loss has come.
        positions = {
            topic: {
                partition: max(last, self._offset_tracker.offset(topic, partition))
                for partition, (_, last) in partitions.items()
            }
            for topic, partitions in lost.items()
        }
        return self._lose(fields, lost, positions)

    def _lose_of_feed(self, fields: dict[str, Any]) -> Resumed | None:
        """Kafka has lost records, or deleted them before the server read them; all are told."""
        followed = set(self._topics.values())
        lost = {
            topic: partitions
            for topic, partitions in by_partition(fields["lost"], read_range).items()
            if topic in followed
        }
        if not lost:
            return None
        ids = {topic: one for topic, one in read_ids(fields).items() if topic in followed}
        recreated = self._offset_tracker.recreated(ids)
        # Where offsets begin again. A replay may still be before that; and where there are no
        # positions it may be on its way to what is lost, so only messages move the client's.
        positions = {
            topic: {
                partition: offset
                if topic in recreated
                else min(offset, self._offset_tracker.offset(topic, partition, offset))
                for partition, offset in partitions.items()
            }
            for topic, partitions in by_partition(fields.get("positions", {}), int).items()
            if topic in followed
        }
        return self._lose(fields, lost, positions, ids)

    def _lose(
        self, fields: dict[str, Any], lost: Lost, positions: Positions, ids: Ids | None = None
    ) -> Resumed:
        item = Resumed(
            recovered=False,
            replayed=None,
            lost=lost,
            reason=str(fields["reason"]),
            seconds_away=None,
            names=(),
            rejected=(),
            positions=positions,
            ids=ids or {},
        )
        self._offset_tracker.follow(item)
        self._counts.lost += count_lost(lost)
        return item


def auth_command(token: str) -> str:
    """Goes on with another token."""
    return orjson.dumps({"type": "auth", "data": {"token": token}}).decode()
