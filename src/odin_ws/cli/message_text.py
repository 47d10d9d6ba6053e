"""Formats messages as lines of text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from odin_ws.cli.printable import printable
from odin_ws.protocol.json_text import dump_json
from odin_ws_client import Disconnected, Message

__all__ = ["Line", "colour", "describe", "describe_end", "time_of_day"]

# The code of a connection that ended without a close frame: only the reason is shown.
_ABNORMAL: Final = 1006

# Colour names that both click and rich know.
_COLOURS: Final = {
    "trade": "green",
    "liquidity": "cyan",
    "metadata": "blue",
    "social": "bright_blue",
    "community": "yellow",
    "creation": "bright_magenta",
    "analytics": "magenta",
    "balances": "bright_cyan",
}

# Fields that fit in a line after time, channel and event type.
_FIELDS: Final = 4
_VALUE_CHARACTERS: Final = 20

# For latency measurements; not shown.
_HIDDEN: Final = frozenset({"pub_us"})


class Line(NamedTuple):
    """One message: time of day, channel, event type and the first fields of its data."""

    time: str
    channel: str
    event: str
    fields: str

    @property
    def category(self) -> str:
        """The channel's category: the text after the last dot."""
        return self.channel.rpartition(".")[2]


def describe(message: Message) -> Line:
    """Return a message as a line; the record's value may be any JSON."""
    event, data = "", message.data
    if isinstance(data, dict):
        event = str(data.get("type", ""))
        data = data.get("data", data)
    if isinstance(data, dict):
        shown = [(name, field) for name, field in data.items() if name not in _HIDDEN]
        fields = "  ".join(f"{name}={_short(field)}" for name, field in shown[:_FIELDS])
    else:
        fields = _short(data)
    return Line(
        time_of_day(message.timestamp),
        printable(message.channel),
        printable(event),
        printable(fields),
    )


def describe_end(end: Disconnected) -> str:
    """Return how a connection ended, and when the next attempt is."""
    code = "" if end.code == _ABNORMAL else str(end.code)
    why = " ".join(filter(None, ("disconnected:", code, printable(end.reason))))
    return why if end.retry_in is None else f"{why}; retrying in {end.retry_in:.1f} s"


def time_of_day(timestamp: int) -> str:
    """Return epoch ms as local time with milliseconds; timestamps may be out of range."""
    try:
        when = datetime.fromtimestamp(timestamp / 1000, UTC).astimezone()
    except (OverflowError, ValueError):
        return "--:--:--.---"
    return when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03}"


def colour(category: str) -> str:
    """Return the colour of a category."""
    return _COLOURS.get(category, "white")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else dump_json(value).decode()
    if len(text) <= _VALUE_CHARACTERS:
        return text
    return text[: _VALUE_CHARACTERS - 1] + "…"
