"""A grant: the patterns that one user may read, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from odin_ws.catalogue import Catalogue
from odin_ws.pattern import ANY, Pattern, channel_name, has_token

__all__ = ["Grant", "full_grant", "not_granted"]

# A rejection names so many of the channels that are missing: a thousand tokens' would fill pages.
_MOST_NAMED: Final = 4

_NONE: Final[frozenset[str]] = frozenset()


@attrs.frozen
class Grant:
    """What one token lets its bearer do.

    `allowed`: per category the tokens whose channels may be read, `*` for all; a category that is
    not there is not granted at all. `user` is None where nobody is asked. `expires_at`: epoch
    seconds, None for never. `max_subscriptions`: the bearer's own limit, within the server's.
    """

    allowed: Mapping[str, frozenset[str]]
    user: str | None = None
    token_id: str | None = None
    expires_at: float | None = None
    max_subscriptions: int | None = None

    def covers(self, pattern: str) -> bool:
        """Whether every channel of a pattern may be read, of those the catalogue has."""
        return not self.missing([pattern])

    def missing(self, patterns: Iterable[str]) -> list[str]:
        """What is not granted of some patterns, by category: `*.balances`, `BTC.balances`."""
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
    """Everything, to nobody in particular."""
    return Grant(dict.fromkeys(catalogue.categories, frozenset({ANY})))


def not_granted(missing: list[str]) -> str:
    """The sentence for a client that asked for more than it may read."""
    named, others = missing[:_MOST_NAMED], len(missing) - _MOST_NAMED
    return f"not granted: {', '.join(named)}" + (f" and {others} more" if others > 0 else "")
