"""Revoked users and JWT ids, kept until their JWTs would have expired."""

from __future__ import annotations

from typing import Final

import attrs

from odin_ws.auth.grants import Grant

__all__ = ["LASTS_SECONDS", "Revocation", "Revocations", "TooManyRevocations"]

# How long one lasts that does not say so: longer than access tokens live.
LASTS_SECONDS: Final = 24 * 3600

# A few hundred bytes each. Who has more to revoke changes the key.
_MOST: Final = 10_000


class TooManyRevocations(Exception):
    """The list is full. Nothing was revoked: to forget another would let somebody in again."""


@attrs.frozen
class Revocation:
    """One user, or one token by its `jti`."""

    user: str | None = None
    token_id: str | None = None

    def concerns(self, grant: Grant) -> bool:
        """Whether it is about who has this grant."""
        if self.user is not None:
            return grant.user == self.user
        return grant.token_id == self.token_id


class Revocations:
    """The list, in memory: each instance has its own. Times are epoch seconds."""

    def __init__(self, maximum: int = _MOST) -> None:
        self._maximum = maximum
        self._until: dict[Revocation, float] = {}

    def __len__(self) -> int:
        """How many there are, with those that are over and not forgotten yet."""
        return len(self._until)

    def add(self, revocation: Revocation, until: float, now: float) -> None:
        """Revoke until then; a time that has passed takes a revocation back."""
        self._until = {one: end for one, end in self._until.items() if end > now}
        if until <= now:
            self._until.pop(revocation, None)
            return
        if revocation not in self._until and len(self._until) >= self._maximum:
            raise TooManyRevocations
        self._until[revocation] = until

    def cover(self, grant: Grant, now: float) -> bool:
        """Whether the user or the token is revoked."""
        return any(
            self._until.get(one, now) > now
            for one in (Revocation(user=grant.user), Revocation(token_id=grant.token_id))
        )
