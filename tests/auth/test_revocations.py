"""Revocations last until their end, and the list is bounded."""

from __future__ import annotations

import pytest

from odin_ws.auth.revocations import Revocation, Revocations, TooManyRevocations
from tests.auth.claims_factory import grant

ANN = grant(jti="t-1")
ANN_AGAIN = grant(jti="t-2")
BOB = grant(sub="bob", jti="t-1-bob")
NAMELESS = grant()

TOKEN = Revocation(token_id=ANN.token_id)


def test_user_revocation_covers_every_token() -> None:
    """And no other user."""
    revocations = Revocations()
    revocations.add(Revocation(user="ann"), until=100, now=0)
    for one in (ANN, ANN_AGAIN, NAMELESS):
        assert revocations.is_revoked(one, 99)
        assert not revocations.is_revoked(one, 100)
        assert Revocation(user="ann").applies_to(one)
    assert not revocations.is_revoked(BOB, 99)
    assert not Revocation(user="ann").applies_to(BOB)


def test_token_revocation_covers_one_token() -> None:
    """A token without an id cannot be revoked alone."""
    revocations = Revocations()
    revocations.add(TOKEN, until=100, now=0)
    assert revocations.is_revoked(ANN, 99)
    for other in (ANN_AGAIN, BOB, NAMELESS):
        assert not revocations.is_revoked(other, 99)
        assert not TOKEN.applies_to(other)


def test_user_name_and_token_id_are_separate() -> None:
    """They may be equal."""
    revocations = Revocations()
    revocations.add(Revocation(user="t-1"), until=100, now=0)
    assert not revocations.is_revoked(ANN, 0)


def test_revocation_can_be_changed_and_removed() -> None:
    """The last one counts; an end in the past removes it."""
    revocations = Revocations()
    revocations.add(Revocation(user="ann"), until=100, now=0)
    revocations.add(Revocation(user="ann"), until=50, now=0)
    assert not revocations.is_revoked(ANN, 60)
    revocations.add(Revocation(user="ann"), until=100, now=0)
    revocations.add(Revocation(user="ann"), until=0, now=10)
    assert not revocations.is_revoked(ANN, 10)
    assert len(revocations) == 0


def test_full_list_rejects_more() -> None:
    """Dropping one would readmit a user; expired ones free room."""
    revocations = Revocations(maximum=2)
    revocations.add(Revocation(user="a"), until=10, now=0)
    revocations.add(Revocation(user="ann"), until=100, now=0)
    with pytest.raises(TooManyRevocations):
        revocations.add(Revocation(user="c"), until=100, now=9)
    revocations.add(Revocation(user="ann"), until=200, now=9)
    revocations.add(Revocation(user="c"), until=100, now=10)
    assert len(revocations) == 2
    assert revocations.is_revoked(ANN, 150)


def test_revocation_survives_a_step_of_the_clock_forward_and_back() -> None:
    """Another revocation meanwhile removed it for good, and the user came back in."""
    revocations = Revocations()
    revocations.add(Revocation(user="ann"), until=100, now=0)
    revocations.add(Revocation(user="bob"), until=90_000, now=3600)
    assert revocations.is_revoked(ANN, 50)
    revocations.add(Revocation(user="bob"), until=100, now=200_000)
    assert len(revocations) == 0
