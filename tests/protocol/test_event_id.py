"""Event ids are parsed back to what was written; other texts are rejected."""

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
def test_event_id_is_parsed_back_unchanged(
    positions: dict[str, dict[int, int]],
    in_snapshot: bool,  # noqa: FBT001 -- Hypothesis gives it
    data: st.DataObject,
) -> None:
    """Topics without partitions, and partitions that are left out, stay so."""
    named = data.draw(st.sets(st.sampled_from(sorted(positions)))) if positions else set()
    event_id = EventId(positions, dict.fromkeys(named, "0f3c"), in_snapshot=in_snapshot)
    text = str(event_id)
    assert parse_event_id(text) == event_id
    # The id is sent in a header, in a URL and in a line of an event.
    assert re.fullmatch(r"[A-Za-z0-9.,:_-]+", text)


@given(st.dictionaries(st.integers(0, 20), OFFSETS, min_size=1), st.data())
def test_writer_with_moved_position_equals_new_event_id(
    partitions: dict[int, int], data: st.DataObject
) -> None:
    """The rest of the id stays as it is."""
    partition, offset = data.draw(st.sampled_from(sorted(partitions))), data.draw(OFFSETS)
    writer = EventIdWriter(EventId({"a": partitions, "b": {0: 7}}))
    writer.move("a", partition, offset)
    expected = EventId({"a": {**partitions, partition: offset}, "b": {0: 7}})
    assert parse_event_id(writer.text.decode()) == expected


def test_event_id_takes_six_characters_per_partition() -> None:
    """12 partitions with 1,000,000,000 records each."""
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
def test_invalid_event_id_is_rejected(text: str) -> None:
    """A page or a stranger may send any text."""
    with pytest.raises(InvalidEventId):
        parse_event_id(text)


@given(st.text(st.characters(codec="latin-1"), max_size=60))
def test_any_text_is_event_id_or_rejected(text: str) -> None:
    """An id that is accepted can be written and parsed again."""
    for candidate in text, f"1,{text}", f"1,odin.trades:{text}":
        try:
            event_id = parse_event_id(candidate)
        except InvalidEventId:
            continue
        assert parse_event_id(str(event_id)) == event_id
