"""Revoked users and JWT ids, kept until their JWTs would have expired."""

from __future__ import annotations

from typing import Final

import attrs

from odin_ws.auth.grants import Grant

__all__ = ["LASTS_SECONDS", "Revocation", "Revocations", "TooManyRevocations"]

# Default duration: longer than access tokens live.
LASTS_SECONDS: Final = 24 * 3600

# A few hundred bytes each. To revoke more, change the key.
_MAX_REVOCATIONS: Final = 10_000


# Expired revocations are kept for this time: after a step of the clock forward and back they apply
# again.
_CLOCK_STEP_SECONDS: Final = 86_400.0


class TooManyRevocations(Exception):
    """The list is full; nothing was revoked, because dropping another entry would readmit it."""


@attrs.frozen
class Revocation:
    """A revoked user, or JWT by its `jti`."""

    user: str | None = None
    token_id: str | None = None

    def applies_to(self, grant: Grant) -> bool:
        """Return whether a grant is of this user or JWT."""
        if self.user is not None:
            return grant.user == self.user
        return grant.token_id == self.token_id


class Revocations:
    """The revocations of this instance, in memory. Times are epoch seconds."""

    def __init__(self, maximum: int = _MAX_REVOCATIONS) -> None:
        self._maximum = maximum
        self._until: dict[Revocation, float] = {}

    def __len__(self) -> int:
        """Return the number of entries, including expired ones that are not removed yet."""
        return len(self._until)

    def add(self, revocation: Revocation, until: float, now: float) -> None:
        """Revoke until then; a past time removes the revocation. Raises TooManyRevocations."""
        self._remove_expired(now - _CLOCK_STEP_SECONDS)
        if until <= now:
            self._until.pop(revocation, None)
            return
        if revocation not in self._until and len(self._until) >= self._maximum:
            self._remove_expired(now)
            if len(self._until) >= self._maximum:
                raise TooManyRevocations
        self._until[revocation] = until

    def _remove_expired(self, now: float) -> None:
        """Remove the entries that had expired by then."""
        self._until = {revocation: end for revocation, end in self._until.items() if end > now}

    def is_revoked(self, grant: Grant, now: float) -> bool:
        """Return whether the user or the JWT is revoked."""
        return any(
            self._until.get(revocation, now) > now
            for revocation in (Revocation(user=grant.user), Revocation(token_id=grant.token_id))
        )
