"""The exceptions that the client raises."""

from __future__ import annotations

import attrs

__all__ = [
    "ClientClosed",
    "ClientError",
    "ClosedByServer",
    "ConnectFailed",
    "HandshakeRejected",
    "InvalidCredential",
    "InvalidUrl",
    "ProtocolViolated",
    "QueueFull",
    "RejectedName",
    "SubscriptionRejected",
]


class ClientError(Exception):
    """The base class: a failure after which the client does not connect or reconnect."""


class ClientClosed(ClientError):
    """The client has ended: no further subscribe or unsubscribe is possible."""


class QueueFull(ClientError):
    """The response to a command cannot be read, because the queue of items is full.

    The command may still take effect, and then yields a `Subscribed` or `Unsubscribed`.
    """


class InvalidUrl(ClientError):
    """The URL is not a WebSocket URL."""


@attrs.frozen
class ConnectFailed(ClientError):
    """The client could not connect."""

    reason: str
    """The cause."""
    permanent: bool = False
    """True if another attempt would fail too."""
    retry_after: float = 0
    """The least wait before the next attempt, seconds."""

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class InvalidCredential(ConnectFailed):
    """The token has characters that cannot be sent. The message does not show the token."""


@attrs.frozen
class HandshakeRejected(ConnectFailed):
    """The server answered the handshake with another HTTP status than 101."""

    status: int = 0
    """The HTTP status."""
    text: str = ""
    """The first 200 bytes of the response body."""


@attrs.frozen
class RejectedName:
    """A name of a command that the server rejected."""

    name: str
    """The channel, topic or bundle."""
    code: str
    """The cause, as an error code of docs/protocol.md."""
    message: str
    """The cause, as a sentence."""


@attrs.frozen
class SubscriptionRejected(ClientError):
    """The server rejected a whole command, or a new token grants none of the subscribed names."""

    code: str
    """The cause, as an error code of docs/protocol.md."""
    message: str
    """The cause, as a sentence."""
    rejected: tuple[RejectedName, ...] = ()
    """The names, if each was rejected for itself; empty if the command was invalid."""

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


@attrs.frozen
class ClosedByServer(ClientError):
    """The server closed the connection with a code after which a client must not reconnect."""

    code: int
    """The close code."""
    reason: str
    """The reason in the close frame."""

    def __str__(self) -> str:
        return f"closed by the server: {self.code} {self.reason}".rstrip()


@attrs.frozen
class ProtocolViolated(ClientError):
    """The server has sent a message that violates the protocol of odin-ws."""

    reason: str
    """The violation."""

    def __str__(self) -> str:
        return f"the server does not speak the protocol of odin-ws: {self.reason}"
