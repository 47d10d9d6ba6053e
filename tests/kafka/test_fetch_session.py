"""A session lists changes since the last fetch, and restarts when it must (KIP-227)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from odin_ws.kafka.fetch_session import FetchSession
from odin_ws.kafka.protocol import FetchFrom
from odin_ws.records import TopicPartition
from tests.hypothesis_examples import examples

TOPIC = "odin.trades"
KEYS = [TopicPartition(TOPIC, number) for number in range(4)]
ID, OTHER_ID = f"{1:032x}", f"{2:032x}"
IDS: Mapping[str, str | None] = {TOPIC: ID}
NOT_FOUND, WRONG_EPOCH, OTHER_TOPIC_ID = 70, 71, 106


def at(offset: int, epoch: int = 0, max_bytes: int = 1024) -> FetchFrom:
    """Where a partition is to be read."""
    return FetchFrom(offset, epoch, max_bytes)


class SessionAgainstABroker(RuleBasedStateMachine):
    """A session beside what a broker remembers of it."""

    def __init__(self) -> None:
        super().__init__()
        self.session = FetchSession()
        self.number = 0
        self.highest = 0
        self.epoch = 0
        self.remembered: dict[TopicPartition, FetchFrom] = {}
        self.remembered_ids: Mapping[str, str | None] = {}

    @rule(
        wanted=st.dictionaries(
            st.sampled_from(KEYS),
            st.builds(FetchFrom, st.integers(0, 2), st.integers(-1, 1), st.sampled_from([1, 2])),
        ),
        topic_id=st.sampled_from([ID, ID, ID, OTHER_ID, None]),
        keeps=st.booleans(),
        loses=st.sampled_from([0, 0, 0, NOT_FOUND, WRONG_EPOCH, OTHER_TOPIC_ID, "answer"]),
    )
    def fetch(
        self,
        wanted: dict[TopicPartition, FetchFrom],
        topic_id: str | None,
        keeps: bool,  # noqa: FBT001 -- drawn
        loses: int | str,
    ) -> None:
        """Whatever was lost before, a broker that answers reads exactly what is wanted."""
        ids = {TOPIC: topic_id}
        request = self.session.request(wanted, ids)
        if isinstance(loses, int) and loses and self.number:
            self.number = 0
            assert not self.session.receive(loses, 0)
            return
        if request.session == 0:
            assert request.epoch == 0
            self.remembered, self.remembered_ids = {}, ids
            self.highest += 1
            self.number = self.highest if keeps else 0
            self.epoch = 0
        else:
            assert (request.session, request.epoch) == (self.number, self.epoch)
        # One session never mixes the logs of two topics.
        assert self.remembered_ids == ids
        for key, where in request.changed.items():
            assert self.remembered.get(key) != where
        self.remembered.update(request.changed)
        for key in request.gone:
            del self.remembered[key]
        assert self.remembered == wanted
        assert self.session.requested == wanted
        self.epoch += 1
        if loses == "answer":
            self.session.forget()
            self.number = 0
        else:
            assert self.session.receive(0, self.number)


TestSessionAgainstABroker = SessionAgainstABroker.TestCase
TestSessionAgainstABroker.settings = settings(max_examples=examples(100), stateful_step_count=20)


def test_fetch_without_changes_is_empty() -> None:
    """For any number of partitions."""
    session = FetchSession()
    session.request(dict.fromkeys(KEYS, at(7)), IDS)
    session.receive(0, 5)
    request = session.request(dict.fromkeys(KEYS, at(7)), dict(IDS))
    assert (request.session, request.epoch) == (5, 1)
    assert not request.changed
    assert not request.gone


@pytest.mark.parametrize("change", [at(8), at(7, epoch=1), at(7, max_bytes=2048)])
def test_fetch_lists_partitions_with_changed_offset_epoch_or_size(change: FetchFrom) -> None:
    """The broker remembers each of the three."""
    session = FetchSession()
    session.request(dict.fromkeys(KEYS, at(7)), IDS)
    session.receive(0, 5)
    request = session.request(dict.fromkeys(KEYS, at(7)) | {KEYS[1]: change}, IDS)
    assert request.changed == {KEYS[1]: change}


@pytest.mark.parametrize("error", [NOT_FOUND, WRONG_EPOCH, OTHER_TOPIC_ID])
def test_lost_session_restarts(error: int) -> None:
    """The next request lists everything."""
    session = FetchSession()
    first = session.request({KEYS[0]: at(1)}, IDS)
    session.receive(0, 5)
    session.request({KEYS[0]: at(2)}, IDS)
    assert not session.receive(error, 0)
    assert session.request({KEYS[0]: at(1)}, IDS) == first


def test_broker_without_sessions_gets_every_partition() -> None:
    """Session 0 is also the session of an error response."""
    session = FetchSession()
    for error in 0, -1, 0:
        request = session.request({KEYS[0]: at(1)}, IDS)
        assert (request.session, request.epoch, request.changed) == (0, 0, {KEYS[0]: at(1)})
        assert session.receive(error, 0)


@pytest.mark.parametrize("ids", [{TOPIC: OTHER_ID}, {TOPIC: None}, {**IDS, "odin.news": ID}])
def test_changed_topic_id_restarts_the_session(ids: Mapping[str, str | None]) -> None:
    """A recreated topic is another log of the same name."""
    session = FetchSession()
    session.request({KEYS[0]: at(1)}, IDS)
    session.receive(0, 5)
    request = session.request({KEYS[0]: at(1)}, ids)
    assert (request.session, request.epoch) == (0, 0)
    assert request.changed == {KEYS[0]: at(1)}
    assert not request.gone


def test_topic_ids_are_compared_with_those_of_the_last_request() -> None:
    """The caller may change its own mapping later."""
    session = FetchSession()
    ids = dict(IDS)
    session.request({KEYS[0]: at(1)}, ids)
    session.receive(0, 5)
    ids[TOPIC] = OTHER_ID
    assert session.request({KEYS[0]: at(1)}, ids).session == 0


def test_epochs_wrap_around_to_1() -> None:
    """0 would begin another session."""
    session = FetchSession()
    session.request({}, IDS)
    session.receive(0, 5)
    session._epoch = (1 << 31) - 1  # noqa: SLF001 -- two thousand million fetches are too many
    session.request({}, IDS)
    session.receive(0, 5)
    assert session.request({}, IDS).epoch == 1


def test_only_moved_partitions_are_compared_with_the_last_request() -> None:
    """A partition that has moved and is not named is not listed: the caller knows it has not."""
    session = FetchSession()
    session.request({KEYS[0]: at(0), KEYS[1]: at(0)}, IDS)
    assert session.receive(0, 7)
    request = session.request({KEYS[0]: at(1), KEYS[1]: at(1)}, IDS, [KEYS[1]])
    assert request.changed == {KEYS[1]: at(1)}
    assert session.requested == {KEYS[0]: at(1), KEYS[1]: at(1)}


@pytest.mark.parametrize("error", [0, NOT_FOUND])
def test_new_session_lists_every_partition_whatever_has_moved(error: int) -> None:
    """A broker that has lost the session, or keeps none, remembers no partition."""
    session = FetchSession()
    session.request({KEYS[0]: at(0), KEYS[1]: at(0)}, IDS)
    session.receive(error, 0)
    wanted = {KEYS[0]: at(0), KEYS[1]: at(1)}
    assert session.request(wanted, IDS, [KEYS[1]]).changed == wanted
