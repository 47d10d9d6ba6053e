"""Which channels there are, and how many of them a subscriber is on.

Channel k is token k // topics in topic k % topics; the smaller its number, the more popular it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

__all__ = ["Names", "Shape"]


@attrs.frozen
class Shape:
    """Channels and subscriptions.

    `each`: channels per subscriber. `zipf`: popularity falls with the rank, for publishing and
    subscribing alike; else all channels are alike. `patterned`: the share of subscribers that have
    a pattern among their subscriptions, by turns `{token}.*` and `*.{category}`.
    """

    tokens: int = 1
    topics: int = 1
    each: int = 1
    zipf: bool = False
    patterned: float = 0.0

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self.tokens * self.topics


@attrs.frozen
class Names:
    """How tokens, categories and topics are called; `prefix` is this run's own."""

    prefix: str
    categories: Sequence[str]
    topics: Sequence[str]

    def token(self, number: int) -> str:
        """A token's name."""
        return f"{self.prefix}{number}"

    def channel(self, number: int) -> str:
        """A channel's name."""
        token, topic = divmod(number, len(self.topics))
        return f"{self.token(token)}.{self.categories[topic]}"
