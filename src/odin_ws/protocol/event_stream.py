"""Server-Sent Events as text: events, comments, reconnection times.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["EVENT_END", "HEARTBEAT", "data_lines", "event", "event_head", "retry"]

EVENT_END: Final = b"\n\n"

HEARTBEAT: Final = b":\n\n"
"""A comment: clients skip it, and proxies see that the stream is alive."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


def event_head(event_id: bytes | None, name: bytes | None = None) -> bytes:
    """Return the beginning of an event before its data; without a name it is a `message`.

    An event without an id leaves the client's last id unchanged.
    """
    named = b"" if name is None else b"event:%b\n" % name
    return (named if event_id is None else b"%bid:%b\n" % (named, event_id)) + b"data:"


def data_lines(text: bytes) -> bytes:
    """Return a JSON text in the form that follows `data:`.

    A line break, which in JSON is only between values, begins another line of data; clients join
    the lines with line feeds.
    """
    if b"\n" not in text and b"\r" not in text:
        return text
    return _LINE_END.sub(b"\ndata: ", text)


def event(name: bytes, payload: bytes, event_id: bytes | None = None) -> bytes:
    """Return a whole event with a JSON text."""
    return event_head(event_id, name) + data_lines(payload) + EVENT_END


def retry(milliseconds: int) -> bytes:
    """Return the field that sets the reconnect time of an EventSource."""
    return b"retry:%d\n" % milliseconds
