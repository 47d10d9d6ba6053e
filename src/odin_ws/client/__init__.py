"""A Trio client that reconnects and resumes: see docs/client.md."""

from __future__ import annotations

from odin_ws.client.client import Client, open_client
from odin_ws.client.credentials import CredentialSource
from odin_ws.client.errors import (
    ClientError,
    ClosedByServer,
    ConnectFailed,
    HandshakeRejected,
    InvalidCredential,
    InvalidUrl,
    ProtocolViolated,
    RejectedName,
    SubscriptionRejected,
)
from odin_ws.client.items import (
    Disconnected,
    FeedChange,
    Item,
    Lost,
    Message,
    Positions,
    Resumed,
    Subscribed,
    Unsubscribed,
)
from odin_ws.client.subscription import Subscription

__all__ = [
    "Client",
    "ClientError",
    "ClosedByServer",
    "ConnectFailed",
    "CredentialSource",
    "Disconnected",
    "FeedChange",
    "HandshakeRejected",
    "InvalidCredential",
    "InvalidUrl",
    "Item",
    "Lost",
    "Message",
    "Positions",
    "ProtocolViolated",
    "RejectedName",
    "Resumed",
    "Subscribed",
    "Subscription",
    "SubscriptionRejected",
    "Unsubscribed",
    "open_client",
]
