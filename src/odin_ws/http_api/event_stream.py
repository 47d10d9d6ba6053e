"""A stream of Server-Sent Events as a connection: framing, its one command, its responses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from odin_ws.connection.connection import Connection
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.http_api.event_ids import (
    EventFormats,
    LiveEventIds,
    PacedEventIds,
    ReplayEventIds,
    event_format,
)
from odin_ws.hub import Subscriber
from odin_ws.protocol.commands import Resume, Subscribe
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.event_id import EventId
from odin_ws.protocol.event_stream import HEARTBEAT, event, retry
from odin_ws.protocol.json_text import dump_json, load_json
from odin_ws.protocol.message_reader import Fault, Incoming
from odin_ws.protocol.responses import error_response
from odin_ws.protocol.selection import RejectedName
from odin_ws.protocol.wire_format import Frames, WireFormat
from odin_ws.resume import ReplayContext
from odin_ws.session.session import SessionStats
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.session.subscriptions import Subscriptions
from odin_ws.time_slice import TimeSlice

__all__ = ["EventFraming", "EventReader", "EventSession", "first_retry"]

# Reconnect time of an EventSource, which does not grow. Clients of a crashed instance reconnect
# spread over these seconds.
_RETRY_MS: Final = (1000, 5000)


def first_retry() -> bytes:
    """Return the beginning of a stream: the default reconnect time."""
    return retry(random.randint(*_RETRY_MS)) + b"\n"  # noqa: S311 -- jitter, no secret


class EventFraming:
    """Formats the notices of one stream. `form`: the format of its first messages.

    Args:
        formats: creates the format of a live stream.
        frames: whether each message is an event, or all messages of a write are one.
        start: the positions from which the client resumes.
        snapshot: whether it gets a snapshot first.
    """

    ping: Final = HEARTBEAT
    end_of_input: Final = DisconnectReason.CLIENT

    def __init__(
        self, formats: EventFormats, frames: Frames, start: EventId | None, *, snapshot: bool
    ) -> None:
        self._formats = formats
        self._frames = frames
        self._start = start
        self._replay: ReplayEventIds | None = ReplayEventIds(start, snapshot=snapshot)
        self._live: LiveEventIds | PacedEventIds | None = None
        self.form = event_format(frames, self._replay)
        self._sent = self._unacknowledged = 0

    def notice(self, payload: bytes) -> bytes:
        """Return an event named after the type of the notice.

        The server's reconnect advice also sets the reconnect time of the EventSource.
        """
        item: dict[str, Any] = load_json(payload)
        notice = event(item["type"].encode(), payload, self._event_id(item))
        after_ms = item.get("retry_ms", item.get("data", {}).get("after_ms"))
        return notice if after_ms is None else retry(after_ms) + notice

    def _event_id(self, item: dict[str, Any]) -> bytes | None:
        if self._replay is None:
            assert self._live is not None
            return self._live.now()
        self._replay.apply(item)
        return self._replay.now()

    def go_live(self, topics: Sequence[str], subscriber: Subscriber) -> WireFormat:
        """Return the format of live messages; all replayed messages of these topics were sent."""
        formats, frames, start = self._formats, self._frames, self._start
        if subscriber.paces is None:
            self.form, self._live = formats.live(topics, frames, start)
        else:
            self.form, self._live = formats.paced(topics, frames, start, subscriber)
        self._replay = None
        return self.form

    def close(self, reason: DisconnectReason) -> bytes:
        """Return an event with the content of a close frame; the response ends after it."""
        end = reason.value
        item = {"type": "close", "code": end.code, "label": end.label, "reason": end.text}
        return event(b"close", dump_json(item))

    def is_received(self, sent: int, unacknowledged: Callable[[], int]) -> bool:
        """See Framing. A client of events sends nothing; its kernel acknowledges bytes."""
        before, now = self._unacknowledged + sent - self._sent, unacknowledged()
        self._sent, self._unacknowledged = sent, now
        return now == 0 or now < before


class EventReader:
    """A reader whose only item is the command in the request; any further byte is a fault."""

    unfinished: Final = False

    def __init__(self) -> None:
        self.has_items = True
        """True if the command was not yielded yet."""

    def receive(self, data: bytes) -> Iterator[Incoming]:
        """See Reader. The first item represents the command."""
        if self.has_items:
            self.has_items = False
            yield ""
        if data:
            yield Fault.BROKEN


class _EventResponses:
    """The responses to the client; separate from the session, for the reason in session.py."""

    __slots__ = ("_connection", "_framing", "_stats")

    def __init__(self, connection: Connection, framing: EventFraming, stats: SessionStats) -> None:
        self._connection = connection
        self._framing = framing
        self._stats = stats

    def respond(self, payload: bytes) -> None:
        """Send a response after all pending messages."""
        self._connection.send_notice(payload)

    def reject_command(self, error: CommandError) -> None:
        """Respond with an error and close: a stream has no other command."""
        self._stats.rejected_commands[error.code] += 1
        self.respond(error_response(error))
        self._connection.close(DisconnectReason.NOT_AVAILABLE)

    def charge(self, messages: int) -> None:
        """Do nothing: a stream has one command, and the rate of new connections is limited."""

    def went_live(self, topics: Sequence[str]) -> None:
        """Use the format of live streams, which clients of the same topics share."""
        subscriber = self._connection.subscriber
        subscriber.form = self._framing.go_live(topics, subscriber)

    def count_rejected_names(self, names: Iterable[RejectedName]) -> None:
        """Count rejected names."""
        self._stats.rejected_names.update(name.code for name in names)


class EventSession:
    """Executes the one command of a stream; see CommandHandler."""

    __slots__ = ("_command", "_responses", "_slice", "_stats", "_subscriptions")

    def __init__(  # noqa: PLR0913 -- its parts
        self,
        connection: Connection,
        framing: EventFraming,
        context: ReplayContext,
        *,
        limits: SubscriptionLimits,
        stats: SessionStats,
        command: Subscribe | Resume,
    ) -> None:
        self._command = command
        self._stats = stats
        self._slice = TimeSlice(context.scans.wait_for_work_slice)
        self._responses = _EventResponses(connection, framing, stats)
        self._subscriptions = Subscriptions(connection, context, limits, self._responses)

    def begin_time_slice(self) -> None:
        """Begin a time slice for the request."""
        self._slice.begin()

    async def receive(self, _message: str | bytes) -> None:
        """Execute the command; the message is empty."""
        self._stats.commands += 1
        try:
            await self._subscriptions.begin(self._command, self._slice)
        except CommandError as error:
            self._responses.reject_command(error)

    def control(self) -> bool:
        """Return False: an event stream has no pings or pongs."""
        return False
