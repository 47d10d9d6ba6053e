"""A grant: the patterns that a user may read, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from odin_ws.catalogue import Catalogue
from odin_ws.pattern import ANY, Pattern, channel_name, has_token

__all__ = ["Grant", "full_grant", "not_granted"]

# Channels that a rejection lists at most: a thousand tokens would fill pages.
_MAX_NAMED: Final = 4

_NONE: Final[frozenset[str]] = frozenset()


@attrs.frozen
class Grant:
    """The permissions of one JWT."""

    allowed: Mapping[str, frozenset[str]]
    """By category the tokens whose channels may be read, `*` for all. A missing category is not
    granted at all."""
    user: str | None = None
    """None without authentication."""
    token_id: str | None = None
    expires_at: float | None = None
    """Epoch seconds; None for never."""
    max_subscriptions: int | None = None
    """The user's own limit, within the server's; None without one."""

    def covers(self, pattern: str) -> bool:
        """Return whether all channels of a pattern are granted, of those in the catalogue."""
        return not self.missing([pattern])

    def missing(self, patterns: Iterable[str]) -> list[str]:
        """Return the patterns that are not granted, by category: `*.balances`, `BTC.balances`."""
        found: dict[str, None] = {}
        allowed = self.allowed
        for pattern in patterns:
            parsed = Pattern.parse(pattern)
            token = parsed.token
            for category in parsed.categories(allowed):
                if not has_token(allowed.get(category, _NONE), token):
                    found[channel_name(token, category)] = None
        return list(found)


def full_grant(catalogue: Catalogue) -> Grant:
    """Return a grant of everything, without a user."""
    return Grant(dict.fromkeys(catalogue.categories, frozenset({ANY})))


def not_granted(missing: list[str]) -> str:
    """Return the message for a client that requested more than is granted."""
    named, others = missing[:_MAX_NAMED], len(missing) - _MAX_NAMED
    return f"not granted: {', '.join(named)}" + (f" and {others} more" if others > 0 else "")
