"""Event ids: what is written is what is read, and nothing else is read."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.event_id import EventId, EventIdWriter, InvalidEventId, parse_event_id

OFFSETS = st.integers(-1, (1 << 63) - 1)
TOPICS = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)
POSITIONS = st.dictionaries(TOPICS, st.dictionaries(st.integers(0, 40), OFFSETS), max_size=4)


@given(POSITIONS, st.booleans(), st.data())
def test_written_id_is_read_as_it_was(
    positions: dict[str, dict[int, int]],
    in_snapshot: bool,  # noqa: FBT001 -- Hypothesis gives it
    data: st.DataObject,
) -> None:
    """Topics without partitions, and partitions that are left out, stay so."""
    named = data.draw(st.sets(st.sampled_from(sorted(positions)))) if positions else set()
    event_id = EventId(positions, dict.fromkeys(named, "0f3c"), in_snapshot=in_snapshot)
    text = str(event_id)
    assert parse_event_id(text) == event_id
    # It stands in a header, in a URL, and in a line of an event.
    assert re.fullmatch(r"[A-Za-z0-9.,:_-]+", text)


@given(st.dictionaries(st.integers(0, 20), OFFSETS, min_size=1), st.data())
def test_moved_position_is_written_as_if_it_had_been_there(
    partitions: dict[int, int], data: st.DataObject
) -> None:
    """The rest of the id stays as it is."""
    partition, offset = data.draw(st.sampled_from(sorted(partitions))), data.draw(OFFSETS)
    writer = EventIdWriter(EventId({"a": partitions, "b": {0: 7}}))
    writer.move("a", partition, offset)
    expected = EventId({"a": {**partitions, partition: offset}, "b": {0: 7}})
    assert parse_event_id(writer.text.decode()) == expected


def test_id_of_usual_offsets_is_short() -> None:
    """Twelve partitions with a thousand million records each: six characters a partition."""
    event_id = EventId({"odin.trades": dict.fromkeys(range(12), 10**9)}, {"odin.trades": "0" * 32})
    assert len(str(event_id)) == len("1,odin.trades:") + 32 + 1 + 12 * 6


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "2,odin.trades::A",
        "1;odin.trades::A",
        "1,odin.trades",
        "1,odin.trades:A",
        "1,odin.trades::A,odin.trades::B",
        "1,:x:A",
        "1,odin.trades::a",
        "1,odin.trades::A B",
        "1,odin.trades::A\u00e9",
        "1,odin.trades::~",
        "1,odin.trades::0123456789abcdA",
        "1,odin.trades::vvvvvvvvvvvv-",
        f"1,odin.trades:{'x' * 65}:A",
        f"1,{'x' * 250}::A",
        "1,odin.trades::A\n",
        '{"odin.trades":{"0":1}}',
        "1s,",
    ],
)
def test_what_is_no_id_is_rejected(text: str) -> None:
    """Whatever a page or a stranger makes of it."""
    with pytest.raises(InvalidEventId):
        parse_event_id(text)


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_no_text_brings_anything_but_an_id_or_a_rejection(text: str) -> None:
    """What is read can be written."""
    for candidate in text, f"1,{text}", f"1,odin.trades:{text}":
        try:
            event_id = parse_event_id(candidate)
        except InvalidEventId:
            continue
        assert parse_event_id(str(event_id)) == event_id
