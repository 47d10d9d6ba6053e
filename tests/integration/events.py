"""Odin's events as its publishers write them, and as they reach a client."""

from __future__ import annotations

import json

from tests.integration.running_source import Sent
from tests.integration.servers import Client

__all__ = ["EVENTS", "event", "numbers"]

# Written out, and not taken from the catalogue: clients rely on these names.
EVENTS = {
    "trade": ("odin.trades", "TRADE_EXECUTED BUY_COMPLETED SELL_COMPLETED"),
    "liquidity": ("odin.liquidity", "LIQUIDITY_ADDED LIQUIDITY_REMOVED LIQUIDITY_REBALANCED"),
    "metadata": ("odin.metadata", "METADATA_UPDATED TOKEN_NAME_CHANGED TOKEN_FLAGS_CHANGED"),
    "social": ("odin.social", "TWITTER_VERIFIED SOCIAL_LINKS_UPDATED"),
    "community": (
        "odin.community",
        "COMMENT_POSTED COMMENT_PINNED COMMENT_UPVOTED FAVORITE_TOGGLED",
    ),
    "creation": ("odin.creation", "TOKEN_CREATED TOKEN_LISTED TOKEN_BONDED"),
    "analytics": (
        "odin.analytics",
        "PRICE_DELTA_UPDATED HOLDER_COUNT_UPDATED ANALYTICS_RECALCULATED TRENDING_UPDATED",
    ),
    "balances": ("odin.balances", "BALANCE_UPDATED TRANSFER_COMPLETED"),
}


def event(token: str, category: str, number: int = 0, kind: str = "") -> Sent:
    """An event as Odin's publishers write it."""
    topic, kinds = EVENTS[category]
    value = {"type": kind or kinds.split()[0], "timestamp": 1, "data": {"n": number, "t": "ß💧"}}
    return Sent(topic, token.encode(), json.dumps(value, ensure_ascii=False).encode())


def numbers(client: Client, channel: str | None = None) -> list[int]:
    """Numbers of the events that a client received, on one channel or on all."""
    return [
        message["data"]["data"]["n"]
        for message in client.messages
        if channel is None or message["channel"] == channel
    ]
