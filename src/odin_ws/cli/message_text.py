"""Formats messages as lines of text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from odin_ws.protocol.json_text import dump_json
from odin_ws_client import Disconnected, Message

__all__ = ["Line", "colour", "describe", "describe_end", "printable", "time_of_day"]

# Stands for an end without a close frame: the reason says it all.
_ABNORMAL: Final = 1006

# Known to click and to rich by the same names.
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

# What a line has room for beside time, channel and event type.
_FIELDS: Final = 4
_VALUE_CHARACTERS: Final = 20

# For measuring, not for reading.
_HIDDEN: Final = frozenset({"pub_us"})


class Line(NamedTuple):
    """One message: its time of day, channel and event type, and a few fields of its data."""

    time: str
    channel: str
    event: str
    fields: str

    @property
    def category(self) -> str:
        """What follows the channel's last dot."""
        return self.channel.rpartition(".")[2]


def describe(message: Message) -> Line:
    """The line of a message; nothing is assumed about the record's value."""
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
    """How a connection ended, and when there will be another one."""
    code = "" if end.code == _ABNORMAL else str(end.code)
    why = " ".join(filter(None, ("disconnected:", code, printable(end.reason))))
    return why if end.retry_in is None else f"{why}; trying again in {end.retry_in:.1f} s"


def time_of_day(timestamp: int) -> str:
    """Local time to the millisecond, of epoch ms; publishers may set one of no year we know."""
    try:
        when = datetime.fromtimestamp(timestamp / 1000, UTC).astimezone()
    except (OverflowError, ValueError):
        return "--:--:--.---"
    return when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03}"


def colour(category: str) -> str:
    """The colour of a category's lines."""
    return _COLOURS.get(category, "white")


def printable(text: str) -> str:
    """`text` without what could steer a terminal: tokens and values are anybody's words."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else dump_json(value).decode()
    if len(text) <= _VALUE_CHARACTERS:
        return text
    return text[: _VALUE_CHARACTERS - 1] + "…"
