"""A chunk stream gives each member the messages of its patterns from entering to leaving."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.records import TopicPartition
from odin_ws.resume.scan_chunks import (
    CHUNK_BYTES,
    MESSAGE_BYTES,
    Chunk,
    ChunkStream,
    ChunkStreamIndex,
    chunks_of,
)
from odin_ws.steps import finish
from tests.factories import message

TOKENS = ("BTC", "ETH", "a.b")
CATEGORIES = ("trade", "social")
PATTERNS = [f"{token}.{category}" for token in (*TOKENS, "*") for category in (*CATEGORIES, "*")]

patterns = st.frozensets(st.sampled_from(PATTERNS), min_size=1, max_size=3)


class ChunkStreamsAgainstLists(RuleBasedStateMachine):
    """An index of chunk streams and, as its model, a list of messages for each member."""

    def __init__(self) -> None:
        super().__init__()
        self.index: ChunkStreamIndex[int] = ChunkStreamIndex()
        self.members: dict[int, tuple[frozenset[str], ChunkStream[int], int]] = {}
        self.expected: dict[int, list[ChannelMessage]] = {}
        self.offset = 0

    @rule(member=st.integers(0, 4), wanted=patterns)
    def enter(self, member: int, wanted: frozenset[str]) -> None:
        """A member enters the stream of its patterns."""
        if member not in self.members:
            chunk_stream = self.index.enter(member, wanted)
            self.members[member] = wanted, chunk_stream, chunk_stream.end
            self.expected[member] = []

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A member leaves; the stream has all messages since it entered."""
        member = data.draw(st.sampled_from(sorted(self.members)))
        _, chunk_stream, first = self.members.pop(member)
        self.index.leave(member, chunk_stream)
        found: list[ChannelMessage] = []
        while chunk := chunk_stream.chunk(first):
            found += chunk.messages
            first += 1
        assert found == self.expected[member]

    @rule(
        token=st.sampled_from(TOKENS),
        category=st.sampled_from(CATEGORIES),
        closes=st.booleans(),
    )
    def add(self, token: str, category: str, *, closes: bool) -> None:
        """A message is added to its streams, which close their chunks or not."""
        self.offset += 1
        one = message(token, category, offset=self.offset)
        chunk_streams = self.index.find(token, category)
        assert len(set(map(id, chunk_streams))) == len(chunk_streams)
        # A stream without members would grow for nobody.
        assert all(chunk_stream.members for chunk_stream in chunk_streams)
        for chunk_stream in chunk_streams:
            chunk_stream.add(one, TopicPartition(one.record.topic, 0))
            if closes:
                chunk_stream.close()
        for member, (wanted, _, _) in self.members.items():
            if not wanted.isdisjoint(one.patterns):
                self.expected[member].append(one)

    @invariant()
    def one_stream_per_set_of_patterns(self) -> None:
        """Streams without members are removed."""
        assert len(self.index) == len({wanted for wanted, _, _ in self.members.values()})


TestChunkStreamsAgainstLists = ChunkStreamsAgainstLists.TestCase


def test_forget_drops_chunks_and_keeps_numbers_of_others() -> None:
    """The scan forgets the chunks that all members have taken."""
    index: ChunkStreamIndex[int] = ChunkStreamIndex()
    chunk_stream = index.enter(1, frozenset(["BTC.trade"]))
    messages = [message("BTC", offset=number) for number in range(3)]
    for one in messages:
        chunk_stream.add(one, TopicPartition("odin.trades", 0))
        chunk_stream.close()
    chunk_stream.forget(2)
    chunk = chunk_stream.chunk(2)
    assert (chunk_stream.end, chunk and chunk.messages) == (3, messages[2:])
    assert chunk_stream.total == sum(max(MESSAGE_BYTES, len(message.value)) for message in messages)


@given(st.lists(st.integers(0, CHUNK_BYTES + 10), max_size=20))
def test_chunks_hold_all_messages_in_order_and_little_more_than_their_size(
    sizes: list[int],
) -> None:
    """A chunk exceeds 64 KiB by less than one message; each message counts 128 bytes at least."""
    messages = [
        message("BTC", value=b"x" * size, offset=offset) for offset, size in enumerate(sizes)
    ]
    chunks = finish(chunks_of(messages))
    assert [message for chunk in chunks for message in chunk.messages] == messages
    for chunk in chunks:
        assert chunk.size - max(MESSAGE_BYTES, len(chunk.messages[-1].value)) < CHUNK_BYTES
        assert len(chunk.messages) <= CHUNK_BYTES // MESSAGE_BYTES
        offsets = [message.record.offset for message in chunk.messages]
        key = TopicPartition("odin.trades", 0)
        assert (chunk.firsts, chunk.lasts) == ({key: offsets[0]}, {key: offsets[-1]})


def test_filtered_returns_same_chunk_if_nothing_is_left_out() -> None:
    """Clients that receive the same chunk share its encoding."""
    chunk = Chunk([message("BTC", offset=1), message("BTC", offset=2)])
    assert chunk.filtered(lambda _: True) is chunk
    assert [
        message.record.offset
        for message in chunk.filtered(lambda message: message.record.offset > 1).messages
    ] == [2]


@given(
    st.lists(st.integers(0, 2), max_size=12),
    st.dictionaries(st.integers(0, 2), st.integers(-1, 12)),
)
def test_chunk_after_positions_equals_filtering_each_message(
    partitions: list[int], starts: dict[int, int]
) -> None:
    """A message is kept if its partition has a position and its offset is after it."""
    chunk = Chunk(
        message("BTC", offset=offset, partition=partition)
        for offset, partition in enumerate(partitions)
    )
    positions = {TopicPartition("odin.trades", number): at for number, at in starts.items()}
    kept = chunk.filtered(
        lambda one: one.record.offset > starts.get(one.record.partition, len(partitions))
    )
    found = chunk.after(positions)
    assert found.messages == kept.messages
    assert (found.firsts, found.lasts, found.size) == (kept.firsts, kept.lasts, kept.size)
