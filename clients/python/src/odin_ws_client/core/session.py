"""The client's protocol state without I/O: encodes commands, interprets responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from odin_ws_client.core.batch_text import BatchText
from odin_ws_client.core.close_codes import LONGEST_WAIT, VIOLATION, Unacceptable
from odin_ws_client.core.commands import Commands
from odin_ws_client.core.counts import Counts
from odin_ws_client.core.errors import SubscriptionRejected
from odin_ws_client.core.fields import (
    by_partition,
    count_lost,
    read_forced,
    read_ids,
    read_range,
    read_rejected,
    retry_seconds,
)
from odin_ws_client.core.items import (
    Checkpoint,
    FeedChange,
    Item,
    Message,
    Resumed,
    Subscribed,
    Unsubscribed,
)
from odin_ws_client.core.json_text import load_json
from odin_ws_client.core.loss_reports import LossReports
from odin_ws_client.core.replay_progress import ReplayProgress
from odin_ws_client.core.requests import Requests
from odin_ws_client.core.subscription_set import SubscriptionSet

__all__ = ["HEARTBEAT", "ProtocolSession", "Text", "auth_command"]

HEARTBEAT: Final = '{"type":"heartbeat"}'

_NOT_UTF8: Final = 1007

_TOO_MANY_COMMANDS: Final = "RATE_LIMIT_EXCEEDED"

# A text message as received; `load_json` checks that the bytes are UTF-8.
Text = bytes | bytearray


class ProtocolSession:
    """The protocol state of one connection.

    Received messages advance the positions of `subscriptions`.

    Args:
        subscriptions: the subscriptions to begin or resume.
        requests: the application's requests.
        counts: the client's counters.
        disconnected_at: the end of the last connection, on the clock of `take`; None for none.
    """

    def __init__(
        self,
        subscriptions: SubscriptionSet,
        requests: Requests,
        counts: Counts,
        disconnected_at: float | None,
    ) -> None:
        self.retry_in: float | None = None
        """The wait before the deferred command is sent again, seconds; None: up to the client."""
        self.accepted = False
        """True if a subscription has taken effect, or none is planned."""
        self.is_deferred = False
        """True if the command in flight is deferred: the server rejected it for now."""
        self.has_new_state = False
        """True if another item than a message came, or a replay ended; Conversation resets it."""
        self.advice: float | None = None
        """The server's wait before a reconnect, seconds; None without a `reconnect` message."""
        self.token_ends_at: float | None = None
        """The time when the token expires, if a new token is due; TokenRefresh resets it."""
        self.token_retry_in: float | None = None
        """The server's wait before a rejected token is sent again, seconds."""
        self.token_accepted = False
        """True if the server has accepted a new token; TokenRefresh resets it."""
        # The announced time when the current token expires.
        self._last_end: float | None = None
        self._subscriptions = subscriptions
        self._commands = Commands(subscriptions, requests)
        self._counts = counts
        self._disconnected_at = disconnected_at
        self._losses = LossReports(subscriptions, counts)
        self._replay = ReplayProgress(subscriptions)
        self._topics: dict[str, str] = {}
        self._seq = 0
        # True if the last message was no duplicate.
        self._is_new = True

    @property
    def awaits_response(self) -> bool:
        """True if the answer to a command is awaited."""
        commands = self._commands
        return (commands.awaits_ack or commands.awaits_end) and not self.is_deferred

    def begin(self) -> list[Item | Checkpoint]:
        """Plan the commands of an open connection; return the items for the consumer."""
        self.has_new_state = True
        ended = self._commands.begin()
        self.accepted = self._commands.is_idle
        if not ended:
            return []
        return [self._subscriptions.checkpoint(self._subscriptions.forget_other_topics()), *ended]

    def next_command(self) -> str | None:
        """Return the next command to send; None if an answer is awaited or none is pending."""
        return self._commands.next(is_replaying=self._replay.is_running)

    def command(self) -> str:
        """Return the deferred command, to be sent again."""
        self.is_deferred = False
        return self._commands.text()

    def take(self, text: Text, now: float) -> Iterator[Item | Checkpoint]:
        """Handle a message of the server; yield the items for the consumer.

        Raises:
            Unacceptable: if `text` violates the protocol, or messages before `text` are missing.
            SubscriptionRejected: if no subscription is left to follow.
        """
        try:
            fields = load_json(text)
            if fields["type"] == "batch":
                yield from self._batch(fields, text)
                return
            if fields["type"] == "message":
                if self._subscriptions.is_split:
                    yield from self._deliver_ahead(fields, text)
                    return
                message = self._message(fields, text)
                if self._is_new:
                    yield message
                return
            self.has_new_state = True
            was_split = self._subscriptions.is_split
            item = self._notice(fields, now)
        except UnicodeDecodeError as error:
            raise Unacceptable(_NOT_UTF8, str(error), permanent=False) from error
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            # A message with missing fields or wrong types raises one of these errors.
            why = f"{type(error).__name__}: {error} in {text[:80].decode(errors='replace')!r}"
            raise Unacceptable(VIOLATION, why, permanent=True) from error
        if was_split or self._subscriptions.is_split:
            yield self._subscriptions.checkpoint()
        if type(item) is Unsubscribed and not item.forced:
            yield self._subscriptions.checkpoint(self._subscriptions.forget_other_topics())
        if item is not None:
            yield item

    def _batch(self, fields: dict[str, Any], text: Text) -> Iterator[Item | Checkpoint]:
        """Yield the messages of a batch, without duplicates."""
        seq, replay = int(fields["seq"]), fields.get("replay") is True
        ahead = fields.get("ahead") is True
        source = BatchText(text, seq, replay=replay, ahead=ahead)
        first = {"skipped": fields.get("skipped", 0)}
        for number, body in enumerate(fields["messages"], seq):
            marks = {"seq": number, "replay": replay, "ahead": ahead}
            single = body | marks | first
            first = {}
            if self._subscriptions.is_split:
                yield from self._deliver_ahead(single, source)
                continue
            message = self._message(single, source)
            if self._is_new:
                yield message

    def _deliver_ahead(
        self, fields: dict[str, Any], text: Text | BatchText
    ) -> Iterator[Item | Checkpoint]:
        """Yield a message while a replay runs beside live messages, after a checkpoint of both."""
        message = self._message(fields, text)
        # The checkpoint comes first, so positions cover the message when the application takes it.
        if self._subscriptions.is_split:
            yield self._subscriptions.checkpoint_at(message)
        else:
            yield self._subscriptions.checkpoint()
        if self._is_new:
            yield message

    def _message(self, fields: dict[str, Any], text: Text | BatchText) -> Message:
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
        self._is_new = self._replay.advance(message)
        if not self._is_new:
            self._counts.duplicates += 1
        if message.replay and self._replay.count():
            self._end_replay()
        return message

    def _count(self, message: Message) -> None:
        missing = message.seq - (self._seq + 1 + message.skipped)
        if missing:
            # The message would move the position past the missing ones; a resume replays them.
            self._counts.gaps += max(1, missing)
            why = f"message {message.seq} came after {self._seq}, with {message.skipped} skipped"
            raise Unacceptable(VIOLATION, why, permanent=False)
        self._counts.skipped += message.skipped
        self._seq = message.seq

    def _notice(self, fields: dict[str, Any], now: float) -> Item | Checkpoint | None:
        match fields["type"]:
            case "auth" if fields["status"] == "expiring":
                seconds = float(fields["expires_in_ms"]) / 1000
                self.token_ends_at = self._last_end = now + min(seconds, LONGEST_WAIT)
                self.token_retry_in = None
            case "auth_ack":
                self.token_accepted, self._last_end = True, None
            case "auth_error":
                self.token_ends_at = self._last_end
                self.token_retry_in = retry_seconds(fields["data"])
            case "unsubscription_ack" if fields.get("forced") is True:
                return read_forced(fields)
            case _:
                return self._other_notice(fields, now)
        return None

    def _other_notice(self, fields: dict[str, Any], now: float) -> Item | Checkpoint | None:
        match fields["type"]:
            case "subscription_ack" | "resume_ack" | "unsubscription_ack" | "error":
                return self._handle_response(fields, now)
            case "replay_incomplete" if self.accepted and "lost" in fields:
                return self._losses.in_replay(fields, self._replay.tracker)
            case "feed" if fields["status"] == "lost":
                return self._losses.in_feed(fields, set(self._topics.values()))
            case "feed":
                return FeedChange(str(fields["status"]), fields.get("since"))
            case "positions" | "replay_complete":
                return self._handle_positions(fields)
            case "reconnect":
                seconds = float(fields["data"]["after_ms"]) / 1000
                self.advice = min(max(0.0, seconds), LONGEST_WAIT)
            case _ if "seq" in fields:
                raise ValueError(
                    "a message of protocol version 0, which has no positions"
                )  # version 0 sends no positions
            case _:
                pass  # pong, or a type of a newer server
        return None

    def _handle_response(self, fields: dict[str, Any], now: float) -> Item | None:
        if fields["type"] == "error":
            return self._handle_error(fields)
        if fields["type"] == "unsubscription_ack":
            return self._commands.unsubscribed(fields) if self._commands.awaits_end else None
        return self._accept(fields, now) if self._commands.awaits_ack else None

    def _handle_positions(self, fields: dict[str, Any]) -> Checkpoint | None:
        if fields["type"] == "replay_complete":
            self._end_replay()
            if "positions" not in fields:
                return None
        reached = Checkpoint(by_partition(fields["positions"], int), read_ids(fields))
        self._subscriptions.tracker.follow(reached)
        return None if self._subscriptions.is_split else reached

    def _end_replay(self) -> None:
        self.has_new_state = True
        self._replay.end()

    def _accept(self, fields: dict[str, Any], now: float) -> Item | None:
        names = tuple(fields["subscribed"])
        rejected = read_rejected(fields)
        if not names:
            code = rejected[0].code if rejected else ""
            error = SubscriptionRejected(code, "the server rejected every name", rejected)
            return self._commands.reject(error)
        topics = {str(name): str(topic) for name, topic in fields["categories"].items()}
        positions = by_partition(fields.get("positions", {}), int)
        lost = by_partition(fields.get("lost", {}), read_range)
        ids, replayed = read_ids(fields), fields.get("replayed", 0)
        item: Subscribed | Resumed = Subscribed(names, rejected, positions, ids, replayed)
        # A subscribe with `since_ms` reports a loss too, if Kafka has deleted some of the records.
        if self._commands.is_resuming or lost:
            for topic, partitions in lost.items():
                ends = {partition: last for partition, (_, last) in partitions.items()}
                positions[topic] = ends | positions.get(topic, {})
            away = None if self._disconnected_at is None else now - self._disconnected_at
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
        self._topics |= topics
        self._counts.connections += not self.accepted
        self.accepted = True
        is_replayed = "replayed" in fields
        step, behind = self._commands.accepted(
            item, frozenset(topics.values()), is_replayed=is_replayed
        )
        self._replay.begin(step, behind, replayed, is_replayed=is_replayed)
        if is_replayed and replayed == 0:
            self._end_replay()
        return item

    def _handle_error(self, fields: dict[str, Any]) -> Unsubscribed | None:
        # The error does not name the ignored command, so it may have been an `auth`.
        if fields.get("code") == _TOO_MANY_COMMANDS:
            self.token_ends_at = self._last_end
            self.token_retry_in = retry_seconds(fields)
        number = self._commands.number
        if not self.awaits_response or fields.get("id", number) != number:
            return None
        if not fields.get("retry", False):
            error = SubscriptionRejected(str(fields["code"]), str(fields["message"]))
            return self._commands.reject(error)
        self.is_deferred = True
        self.retry_in = retry_seconds(fields)
        return None


def auth_command(token: str) -> str:
    """Return the command that replaces the token of a live connection."""
    return orjson.dumps({"type": "auth", "data": {"token": token}}).decode()
