"""The error codes of commands."""

from __future__ import annotations

from enum import StrEnum

import attrs

__all__ = ["CommandError", "ErrorCode", "shown"]

# Limit of quoted client text: enough for a channel.
_MAX_SHOWN = 160


def shown(text: str) -> str:
    """Shorten a quoted client text: no response should be longer than its command."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


class ErrorCode(StrEnum):
    """The codes of `error` responses and of `rejected` names."""

    INVALID_JSON = "INVALID_JSON"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    INVALID_CHANNEL = "INVALID_CHANNEL"
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    UNKNOWN_BUNDLE = "UNKNOWN_BUNDLE"
    NOT_SUBSCRIBED = "NOT_SUBSCRIBED"
    FORBIDDEN = "FORBIDDEN"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    TOO_MANY_FILTERS = "TOO_MANY_FILTERS"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    NOT_AVAILABLE = "NOT_AVAILABLE"
    INVALID_TOKEN = "INVALID_TOKEN"  # noqa: S105 -- a code
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 -- a code


@attrs.define
class CommandError(Exception):
    """A command that gets an error response."""

    code: ErrorCode
    message: str
    id: str | int | None = None
    """The command's id, if readable."""
    command: str | None = None
    """The command's type, if readable."""
    retry: bool = False
    """True if the same command may succeed later."""
    retry_ms: int | None = None
    """Milliseconds after which to send the same command again on the same connection."""

    def __str__(self) -> str:
        return self.message
