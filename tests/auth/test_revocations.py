"""Who is revoked is so until the end, and the list does not grow for ever."""

from __future__ import annotations

import pytest

from odin_ws.auth.revocations import Revocation, Revocations, TooManyRevocations
from tests.auth.claims_factory import grant

ANN = grant(jti="t-1")
ANN_AGAIN = grant(jti="t-2")
BOB = grant(sub="bob", jti="t-1-bob")
NAMELESS = grant()

TOKEN = Revocation(token_id=ANN.token_id)


def test_a_user_is_revoked_with_every_token() -> None:
    """And nobody else."""
    revocations = Revocations()
    revocations.add(Revocation(user="ann"), until=100, now=0)
    for one in (ANN, ANN_AGAIN, NAMELESS):
        assert revocations.cover(one, 99)
        assert not revocations.cover(one, 100)
        assert Revocation(user="ann").concerns(one)
    assert not revocations.cover(BOB, 99)
    assert not Revocation(user="ann").concerns(BOB)


def test_one_token_can_be_revoked() -> None:
    """The user's others stay good; a token without an id cannot be meant."""
    revocations = Revocations()
    revocations.add(TOKEN, until=100, now=0)
    assert revocations.cover(ANN, 99)
    for other in (ANN_AGAIN, BOB, NAMELESS):
        assert not revocations.cover(other, 99)
        assert not TOKEN.concerns(other)


def test_a_name_is_not_taken_for_an_id() -> None:
    """A user may be called as a token is."""
    revocations = Revocations()
    revocations.add(Revocation(user="t-1"), until=100, now=0)
    assert not revocations.cover(ANN, 0)


def test_a_revocation_can_be_changed_and_taken_back() -> None:
    """The last word counts; an end that has passed is the way back."""
    revocations = Revocations()
    revocations.add(Revocation(user="ann"), until=100, now=0)
    revocations.add(Revocation(user="ann"), until=50, now=0)
    assert not revocations.cover(ANN, 60)
    revocations.add(Revocation(user="ann"), until=100, now=0)
    revocations.add(Revocation(user="ann"), until=0, now=10)
    assert not revocations.cover(ANN, 10)
    assert len(revocations) == 0


def test_a_full_list_forgets_nobody() -> None:
    """One more is rejected: to make room would let somebody in; those that are over make room."""
    revocations = Revocations(maximum=2)
    revocations.add(Revocation(user="a"), until=10, now=0)
    revocations.add(Revocation(user="ann"), until=100, now=0)
    with pytest.raises(TooManyRevocations):
        revocations.add(Revocation(user="c"), until=100, now=9)
    revocations.add(Revocation(user="ann"), until=200, now=9)
    revocations.add(Revocation(user="c"), until=100, now=10)
    assert len(revocations) == 2
    assert revocations.cover(ANN, 150)
