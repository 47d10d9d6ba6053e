"""An EventSource of our own making: what the HTML standard says a browser does, and no more.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import attrs
import trio

from odin_ws.testing.memory_connection import ClientStream
from odin_ws.testing.scenario import Scenario

__all__ = ["Event", "EventParser", "EventSource", "sse_request"]

# Virtual seconds after which a client that waits in vain gives up.
_PATIENCE: Final = 100


@attrs.frozen
class Event:
    """An event as a page gets it. `last_event_id`: what its browser sends back from then on."""

    name: str
    data: str
    last_event_id: str

    @property
    def json(self) -> dict[str, Any]:
        """The object in its data."""
        found: dict[str, Any] = json.loads(self.data)
        return found


class EventParser:
    """Parses a stream in whatever pieces it comes; an event that is not whole is never seen."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self.comments = 0
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id = last_event_id

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole with these bytes."""
        self._rest += data
        while (line := self._line()) is not None:
            if line:
                self._field(line)
                continue
            self.last_event_id = self._id
            name, lines, self._name, self._data = self._name, self._data, "", []
            if lines:
                yield Event(name or "message", "\n".join(lines), self._id)

    def _line(self) -> str | None:
        """The next line; a CR at the end of what has come may be half of a line end."""
        ends = [at for at in (self._rest.find(b"\r"), self._rest.find(b"\n")) if at >= 0]
        if not ends:
            return None
        at = min(ends)
        if self._rest[at : at + 1] == b"\r" and at + 1 == len(self._rest):
            return None
        line = self._rest[:at].decode()
        self._rest = self._rest[at + (2 if self._rest[at : at + 2] == b"\r\n" else 1) :]
        return line

    def _field(self, line: str) -> None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "":
                self.comments += 1
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
            case _:
                raise AssertionError(f"a line of no use: {line!r}")


def sse_request(
    query: Mapping[str, Any] | str,
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "/sse",
    method: str = "GET",
) -> bytes:
    """A request for a stream of events."""
    text = query if isinstance(query, str) else urlencode(query)
    fields = {"Host": "test", **(headers or {})}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"{method} {path}?{text} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class EventSource:
    """One connection of an EventSource in a scenario."""

    def __init__(self, stream: ClientStream, last_event_id: str = "") -> None:
        self.stream = stream
        self.parser = EventParser(last_event_id)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.received = b""
        self._events: list[Event] = []

    @classmethod
    async def open(  # noqa: PLR0913 -- what a scenario lets one choose
        cls,
        scenario: Scenario,
        query: Mapping[str, Any] | str,
        *,
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        capacity: int = 1 << 20,
        peer: str = "memory",
    ) -> EventSource:
        """Connect, and read the head of the response."""
        fields = dict(headers or {})
        if last_event_id:
            fields["Last-Event-ID"] = last_event_id
        source = cls(await scenario.dial(capacity, peer), last_event_id)
        await source.stream.send_all(sse_request(query, fields))
        await source._head()
        return source

    async def _head(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = await self._receive()
            assert more, f"no whole head: {data!r}"
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {
            name.lower(): value for name, value in (field.split(": ", 1) for field in fields)
        }
        self._feed(rest)

    def _feed(self, data: bytes) -> None:
        self.received += data
        if self.status == 200:
            self._events += self.parser.feed(data)

    async def _receive(self) -> bytes:
        with trio.fail_after(_PATIENCE):
            return await self.stream.receive_some()

    async def event(self) -> Event:
        """The next event."""
        while not self._events:
            data = await self._receive()
            assert data, f"the stream ended: {self.received[-300:]!r}"
            self._feed(data)
        return self._events.pop(0)

    async def named(self, name: str) -> Event:
        """The next event of this name; others are passed over."""
        while (found := await self.event()).name != name:
            pass
        return found

    async def messages(self, count: int) -> list[Event]:
        """The next messages; notices are passed over."""
        return [await self.named("message") for _ in range(count)]

    async def rest(self) -> list[Event]:
        """All events until the server ends the stream."""
        while data := await self._receive():
            self._feed(data)
        events, self._events = self._events, []
        return events

    @property
    def content(self) -> str:
        """What was received behind the head."""
        return self.received.decode()
