"""Messages as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

__all__ = ["Line", "colour", "describe", "printable"]

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


def describe(message: Mapping[str, Any]) -> Line:
    """The line of a `message` of docs/protocol.md; nothing is assumed about the record's value."""
    value = message.get("data")
    event, data = "", value
    if isinstance(value, dict):
        event = str(value.get("type", ""))
        data = value.get("data", value)
    if isinstance(data, dict):
        shown = [(name, field) for name, field in data.items() if name not in _HIDDEN]
        fields = "  ".join(f"{name}={_short(field)}" for name, field in shown[:_FIELDS])
    else:
        fields = _short(data)
    when = datetime.fromtimestamp(message.get("ts", 0) / 1000, UTC).astimezone()
    return Line(
        when.strftime("%H:%M:%S.") + f"{when.microsecond // 1000:03}",
        printable(str(message.get("channel", ""))),
        printable(event),
        printable(fields),
    )


def colour(category: str) -> str:
    """The colour of a category's lines."""
    return _COLOURS.get(category, "white")


def printable(text: str) -> str:
    """`text` without what could steer a terminal: tokens and values are anybody's words."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if len(text) <= _VALUE_CHARACTERS:
        return text
    return text[: _VALUE_CHARACTERS - 1] + "…"
