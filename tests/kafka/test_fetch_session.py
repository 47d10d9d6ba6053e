"""A session names what has changed since the last fetch, and begins anew when it must (KIP-227)."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from odin_ws.kafka.fetch_session import FetchSession
from odin_ws.records import TopicPartition

KEYS = [TopicPartition("odin.trades", number) for number in range(4)]
NOT_FOUND, WRONG_EPOCH = 70, 71


class SessionAgainstABroker(RuleBasedStateMachine):
    """A session beside what a broker remembers of it."""

    def __init__(self) -> None:
        super().__init__()
        self.session = FetchSession()
        self.number = 0
        self.epoch = 0
        self.remembered: dict[TopicPartition, int] = {}

    @rule(
        wanted=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3)),
        keeps=st.booleans(),
        loses=st.sampled_from(["", "", "", "session", "answer"]),
    )
    def fetch(self, wanted: dict[TopicPartition, int], keeps: bool, loses: str) -> None:  # noqa: FBT001 -- drawn
        """Whatever was lost before, a broker that answers reads exactly what is wanted."""
        request = self.session.request(wanted)
        if loses == "session" and self.number:
            self.number = 0
            assert not self.session.answered(NOT_FOUND, 0)
            return
        if request.session == 0:
            assert request.epoch == 0
            self.remembered = {}
            self.number = 1 + self.number if keeps else 0
            self.epoch = 0
        else:
            assert (request.session, request.epoch) == (self.number, self.epoch)
        self.remembered.update(request.changed)
        for key in request.gone:
            del self.remembered[key]
        assert self.remembered == wanted
        assert all(self.session.asked(key) == offset for key, offset in wanted.items())
        self.epoch += 1
        if loses == "answer":
            self.session.forget()
            self.number = 0
        else:
            assert self.session.answered(0, self.number)


TestSessionAgainstABroker = SessionAgainstABroker.TestCase
TestSessionAgainstABroker.settings = settings(max_examples=50, stateful_step_count=20)


def test_a_quiet_fetch_names_nothing() -> None:
    """With nothing new since the last one, a fetch of any number of partitions is empty."""
    session = FetchSession()
    session.request(dict.fromkeys(KEYS, 7))
    session.answered(0, 5)
    request = session.request(dict.fromkeys(KEYS, 7))
    assert (request.session, request.epoch) == (5, 1)
    assert not request.changed
    assert not request.gone


@pytest.mark.parametrize("error", [NOT_FOUND, WRONG_EPOCH])
def test_a_session_the_broker_has_lost_begins_anew(error: int) -> None:
    """The next request names everything, as the first did."""
    session = FetchSession()
    first = session.request({KEYS[0]: 1})
    session.answered(0, 5)
    session.request({KEYS[0]: 2})
    assert not session.answered(error, 0)
    assert session.request({KEYS[0]: 1}) == first


def test_epochs_go_round() -> None:
    """After the largest number comes 1: 0 would begin another session."""
    session = FetchSession()
    session.request({})
    session.answered(0, 5)
    session._epoch = (1 << 31) - 1  # noqa: SLF001 -- two thousand million fetches are too many
    session.request({})
    session.answered(0, 5)
    assert session.request({}).epoch == 1
