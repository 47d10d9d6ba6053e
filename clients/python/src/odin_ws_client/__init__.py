"""A client of odin-ws that reconnects and resumes: see docs/client.md.

This package exports the classes that both event loops share; `open_client` is in
`odin_ws_client.asyncio` and `odin_ws_client.trio`.
"""

from __future__ import annotations

from odin_ws_client.core.credentials import CredentialSource
from odin_ws_client.core.errors import (
    ClientClosed,
    ClientError,
    ClosedByServer,
    ConnectFailed,
    HandshakeRejected,
    InvalidCredential,
    InvalidUrl,
    ProtocolViolated,
    QueueFull,
    RejectedName,
    SubscriptionRejected,
)
from odin_ws_client.core.items import (
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
from odin_ws_client.core.subscription import Subscription

__all__ = [
    "ClientClosed",
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
    "QueueFull",
    "RejectedName",
    "Resumed",
    "Subscribed",
    "Subscription",
    "SubscriptionRejected",
    "Unsubscribed",
]
