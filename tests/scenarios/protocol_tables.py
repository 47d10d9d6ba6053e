"""The protocol page's tables as constants: tests compare the catalogue with them."""

from __future__ import annotations

from typing import Final

__all__ = ["BUNDLES", "EVENTS", "TOPICS"]

# category: the event types of its topic
EVENTS: Final = {
    "trade": ["TRADE_EXECUTED", "BUY_COMPLETED", "SELL_COMPLETED"],
    "liquidity": ["LIQUIDITY_ADDED", "LIQUIDITY_REMOVED", "LIQUIDITY_REBALANCED"],
    "metadata": ["METADATA_UPDATED", "TOKEN_NAME_CHANGED", "TOKEN_FLAGS_CHANGED"],
    "social": ["TWITTER_VERIFIED", "SOCIAL_LINKS_UPDATED"],
    "community": ["COMMENT_POSTED", "COMMENT_PINNED", "COMMENT_UPVOTED", "FAVORITE_TOGGLED"],
    "creation": ["TOKEN_CREATED", "TOKEN_LISTED", "TOKEN_BONDED"],
    "analytics": [
        "PRICE_DELTA_UPDATED",
        "HOLDER_COUNT_UPDATED",
        "ANALYTICS_RECALCULATED",
        "TRENDING_UPDATED",
    ],
    "balances": ["BALANCE_UPDATED", "TRANSFER_COMPLETED"],
}

# category: its topic
TOPICS: Final = {
    "trade": "odin.trades",
    "liquidity": "odin.liquidity",
    "metadata": "odin.metadata",
    "social": "odin.social",
    "community": "odin.community",
    "creation": "odin.creation",
    "analytics": "odin.analytics",
    "balances": "odin.balances",
}

# bundle: its categories
BUNDLES: Final = {
    "TRADING": {"trade", "liquidity", "analytics"},
    "FULL_MARKET": {"trade", "liquidity", "analytics", "metadata"},
    "COMMUNITY": {"community", "social", "metadata"},
    "PORTFOLIO": {"trade", "analytics", "balances"},
    "PRICE_ONLY": {"trade", "analytics"},
    "ALL": set(EVENTS),
}
