"""Our fetches are what aiokafka's schemas say, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.records import TopicPartition
from odin_ws.source.fetch_session import SessionRequest
from odin_ws.source.fetch_wire import (
    FETCH_BYTES,
    PARTITION_BYTES,
    Fetch,
    Fetched,
    FetchedPartition,
    Patience,
    read_answer,
)

VERSIONS = {FetchRequest_v11.API_KEY: (0, 99)}

int16 = st.integers(-(1 << 15), (1 << 15) - 1)
int32 = st.integers(-(1 << 31), (1 << 31) - 1)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)

keys = st.builds(TopicPartition, st.text(max_size=5), int32)
requests = st.builds(
    SessionRequest,
    int32,
    int32,
    st.dictionaries(keys, int64, max_size=5),
    st.frozensets(keys, max_size=5),
)
patiences = st.builds(
    Patience, st.integers(0, 1 << 30), st.integers(0, 9999).map(lambda n: n / 1e3)
)


def grouped(entries: dict[TopicPartition, Any]) -> list[tuple[str, list[Any]]]:
    """By topic, as a schema wants them."""
    topics: dict[str, list[Any]] = {}
    for (topic, _), entry in entries.items():
        topics.setdefault(topic, []).append(entry)
    return list(topics.items())


@given(requests, patiences)
def test_a_fetch_is_written_as_its_schema_says(request: SessionRequest, patience: Patience) -> None:
    """Kafka's protocol guide, Fetch in version 11; -1 stands for what only followers know."""
    asked = {
        key: (key.partition, -1, at, -1, PARTITION_BYTES) for key, at in request.changed.items()
    }
    expected = FetchRequest_v11(
        -1,
        round(patience.seconds * 1000),
        patience.at_least,
        FETCH_BYTES,
        1,  # read committed
        request.session,
        request.epoch,
        grouped(asked),
        grouped({key: key.partition for key in request.gone}),
        "",
    )
    assert Fetch(request, patience).prepare(VERSIONS).encode() == expected.encode()


partitions = st.tuples(
    int32,
    int16,
    int64,
    int64,
    int64,
    st.none() | st.lists(st.tuples(int64, int64), max_size=3),
    int32,
    st.none() | st.binary(max_size=20),
)
answers = st.builds(
    FetchResponse_v11,
    int32,
    int16,
    int32,
    st.lists(st.tuples(st.text(max_size=5), st.lists(partitions, max_size=3)), max_size=3),
)


@given(answers)
def test_an_answer_is_read_as_its_schema_says(answer: Any) -> None:
    """Whatever the broker has in it."""
    found = read_answer(memoryview(answer.encode()))
    assert found == Fetched(
        answer.error_code,
        answer.session_id,
        [
            FetchedPartition(TopicPartition(topic, number), error, aborted or [], data or b"")
            for topic, several in answer.topics
            for number, error, _high, _stable, _start, aborted, _replica, data in several
        ],
    )


@given(answers, st.data())
def test_an_answer_without_its_end_is_an_error(answer: Any, data: st.DataObject) -> None:
    """Nothing is made up, and nothing else is raised."""
    whole = answer.encode()
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match=r"an answer of|are said to follow"):
        read_answer(memoryview(whole)[:end])


@given(st.binary(max_size=100))
def test_any_bytes_are_an_answer_or_an_error(data: bytes) -> None:
    """A broker may say anything."""
    try:
        read_answer(memoryview(data))
    except ValueError:
        return


def test_a_request_shows_nothing_of_itself_in_a_log() -> None:
    """Aiokafka logs it, at its level debug."""
    request = Fetch(SessionRequest(0, 0, {}, frozenset()), Patience(1, 1)).prepare(VERSIONS)
    assert str(request) == f"Fetch({len(request.encode())} bytes)"
