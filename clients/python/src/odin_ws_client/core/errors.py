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
    "NotAnswered",
    "ProtocolViolated",
    "RejectedName",
    "SubscriptionRejected",
]


class ClientError(Exception):
    """Why a client does not come back, or was never there."""


class ClientClosed(ClientError):
    """The client has ended: it can subscribe to nothing more."""


class NotAnswered(ClientError):
    """A command has no answer yet, and cannot get one: too many items wait to be taken.

    It may take effect nevertheless; a `Subscribed` or `Unsubscribed` then says so.
    """


class InvalidUrl(ClientError):
    """The URL is not a WebSocket URL."""


@attrs.frozen
class ConnectFailed(ClientError):
    """The client could not connect.

    `permanent`: another attempt would fail too. `retry_after`: seconds before the next attempt.
    """

    reason: str
    permanent: bool = False
    retry_after: float = 0

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class InvalidCredential(ConnectFailed):
    """The token has characters that cannot be sent. The message does not show the token."""


@attrs.frozen
class HandshakeRejected(ConnectFailed):
    """The server answered with another HTTP status than 101; `text` is the start of its body."""

    status: int = 0
    text: str = ""


@attrs.frozen
class RejectedName:
    """One name that did not take effect: why, as a code of docs/protocol.md and as a sentence."""

    name: str
    code: str
    message: str


@attrs.frozen
class SubscriptionRejected(ClientError):
    """The server does not carry out a subscription, or the end of one.

    `rejected`: its names one by one, where every one was rejected; otherwise the whole was wrong.
    """

    code: str
    message: str
    rejected: tuple[RejectedName, ...] = ()

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


@attrs.frozen
class ClosedByServer(ClientError):
    """The server closed with a code after which coming back does not help."""

    code: int
    reason: str

    def __str__(self) -> str:
        return f"closed by the server: {self.code} {self.reason}".rstrip()


@attrs.frozen
class ProtocolViolated(ClientError):
    """The server has sent a message that violates the protocol of odin-ws."""

    reason: str

    def __str__(self) -> str:
        return f"what the server sends is not the protocol of odin-ws: {self.reason}"
