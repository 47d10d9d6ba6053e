"""Messages as frames, encoded once for all subscribers of the same messages.

A frame differs between clients only in its sequence number. The rest is in a template, which is
formatted per client in one step. A compressed frame has at least two deflate blocks: a stored one
with the number, and those of the tail, which are compressed once (RFC 7692).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from odin_ws.protocol.deflate import STORED_BYTES, stored_header
from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.event_stream import EVENT_END, data_lines, event_head
from odin_ws.protocol.frames import text_header
from odin_ws.protocol.wire_format import EventIds, Frames, WireFormat
from odin_ws.steps import Steps

__all__ = ["BATCH_BYTES", "NOTHING", "Encoded", "Pack", "encode_steps", "write"]

BATCH_BYTES: Final = 64 << 10
"""The size at which a batch is full.

With one more message it is below the 1 MiB that WebSocket libraries accept by default, compressing
it takes 1 ms, and a deflate window is half as large.
"""

_SINGLE_HEAD: Final = b'{"seq":'
_BATCH_HEAD: Final = b'{"type":"batch","seq":'

_REPLAY: Final = b',"replay":true'
_AHEAD: Final = b',"ahead":true'

# Returns a tail compressed, or None if compression does not pay.
Pack = Callable[[bytes], bytes | None]


class _Frame(NamedTuple):
    """One frame without its sequence number."""

    offset: int
    """The frame's sequence number minus that of the first frame."""
    tail: bytes
    """The part after the head."""
    packed: bool
    """True if the tail is compressed."""
    event_head: bytes | None = None
    """The part before the head of an event; None for a WebSocket frame."""


class Encoded:
    """The frames of some messages without their numbers.

    Args:
        head: the part before the sequence number.
        mark: the part between the number and the tail.
        frames: the frames in order.
        count: the number of messages.
    """

    __slots__ = ("_frames", "_head", "_mark", "_templates", "_written", "count")

    def __init__(self, head: bytes, mark: bytes, frames: Sequence[_Frame], count: int) -> None:
        self.count = count
        self._head = head
        self._mark = mark
        self._frames = frames
        # By the number of digits, which all sequence numbers share.
        self._templates: dict[int, bytes] = {}
        # The last frames with numbers of different lengths, and the first number: clients that
        # return get their replays from 1 on.
        self._written = 0, b""

    def frames(self, seq: int) -> bytes:
        """Return the frames of the messages if the first one has this number."""
        digits = len(str(seq))
        if seq + self.count > 10**digits:
            if self._written[0] != seq:
                self._written = seq, self._write(seq)
            return self._written[1]
        template = self._templates.get(digits)
        if template is None:
            template = self._templates[digits] = self._template(digits)
        frames = self._frames
        if len(frames) == 1:
            return template % seq
        if len(frames) == self.count:
            return template % (*range(seq, seq + self.count),)
        return template % (*[seq + frame.offset for frame in frames],)

    def _write(self, seq: int) -> bytes:
        parts: list[bytes] = []
        for frame in self._frames:
            head = b"%b%d%b" % (self._head, seq + frame.offset, self._mark)
            parts += (_before(frame, len(head)), head, frame.tail)
        return b"".join(parts)

    def _template(self, digits: int) -> bytes:
        length = len(self._head) + digits + len(self._mark)
        head = b"%b%%d%b" % (self._head, self._mark)
        return b"".join(
            part
            for frame in self._frames
            for part in (_literally(_before(frame, length)), head, _literally(frame.tail))
        )


NOTHING: Final = Encoded(b"", b"", (), 0)
"""No messages and no frames."""


def _before(frame: _Frame, length: int) -> bytes:
    """Return the bytes before a frame's head, which has `length` bytes."""
    if frame.event_head is not None:
        return frame.event_head
    if frame.packed:
        whole = STORED_BYTES + length + len(frame.tail)
        return text_header(whole, compressed=True) + stored_header(length)
    return text_header(length + len(frame.tail))


def _literally(part: bytes) -> bytes:
    """Return a part of a template, escaped so that formatting does not change it."""
    return part.replace(b"%", b"%%")


def encode_steps(  # noqa: PLR0913 -- three things may be said of the messages
    messages: Sequence[ChannelMessage],
    form: WireFormat,
    pack: Pack | None = None,
    *,
    replay: bool = False,
    skipped: int = 0,
    ahead: bool = False,
) -> Steps[Encoded]:
    """Encode messages in steps: other tasks may run after each compressed frame.

    Args:
        messages: in order.
        form: the wire format.
        pack: compresses a tail; None without compression.
        replay: the messages are older than the command that requested them.
        skipped: as in `write`.
        ahead: as in `write`.
    """
    batch = form.frames is Frames.BATCH
    tails = _batches(messages, form) if batch else _singles(messages, form)
    if skipped or ahead:
        tails = _marked(tails, skipped, ahead=ahead and form.dialect is Dialect.V1)
    head = _BATCH_HEAD if batch else _SINGLE_HEAD
    mark = _REPLAY if replay else b""
    if form.event_ids is not None:
        events = _events(messages, list(tails), form, form.event_ids, replay=replay)
        return Encoded(head, mark, events, len(messages))
    frames = []
    for offset, tail in tails:
        packed = None if pack is None else pack(tail)
        frames.append(_Frame(offset, tail if packed is None else packed, packed is not None))
        if packed is not None:
            yield
    return Encoded(head, mark, frames, len(messages))


def write(  # noqa: PLR0913 -- three things may be said of the messages
    messages: Sequence[ChannelMessage],
    seq: int,
    form: WireFormat,
    *,
    replay: bool = False,
    skipped: int = 0,
    ahead: bool = False,
) -> bytes:
    """Return the frames of messages for one client, numbered from `seq` on.

    The frames are uncompressed, which is always allowed.

    Args:
        messages: in order.
        seq: the sequence number of the first message.
        form: the wire format.
        replay: as in `encode_steps`.
        skipped: the number of skipped sequence numbers before `seq`.
        ahead: an older message of the same partition comes later. Clients of version 0 have no
            positions, so they do not get this mark.
    """
    mark = _REPLAY if replay else b""
    if ahead and form.dialect is Dialect.V1:
        mark += _AHEAD
    first = b',"skipped":%d%b' % (skipped, mark) if skipped else mark
    batch = form.frames is Frames.BATCH
    head = _BATCH_HEAD if batch else _SINGLE_HEAD
    parts: list[bytes] = []
    tails = _batches(messages, form) if batch else _singles(messages, form)
    if form.event_ids is not None:
        for frame in _events(messages, list(tails), form, form.event_ids, replay=replay):
            text = b"%b%d%b" % (head, seq + frame.offset, first)
            parts += (_before(frame, len(text)), text, frame.tail)
            first = mark
        return b"".join(parts)
    for offset, tail in tails:
        text = b"%b%d%b%b" % (head, seq + offset, first, tail)
        parts.append(text_header(len(text)))
        parts.append(text)
        first = mark
    return b"".join(parts)


def _events(
    messages: Sequence[ChannelMessage],
    tails: Sequence[tuple[int, bytes]],
    form: WireFormat,
    event_ids: EventIds,
    *,
    replay: bool,
) -> list[_Frame]:
    """Return the events of messages; the id of a batch is that of its last message."""
    if not messages:
        return []
    ends = [*(offset for offset, _ in tails[1:]), len(messages)]
    ids = event_ids.of(messages, ends, replay=replay)
    name = b"batch" if form.frames is Frames.BATCH else None
    return [
        _Frame(
            offset,
            data_lines(tail) + EVENT_END,
            packed=False,
            event_head=event_head(event_id, name),
        )
        for (offset, tail), event_id in zip(tails, ids, strict=True)
    ]


def _singles(messages: Iterable[ChannelMessage], form: WireFormat) -> Iterator[tuple[int, bytes]]:
    dialect = form.dialect
    return enumerate([message.tail(dialect) for message in messages])


def _marked(
    tails: Iterable[tuple[int, bytes]], skipped: int, *, ahead: bool
) -> Iterator[tuple[int, bytes]]:
    """Yield tails with marks for skipped messages before the first, and for overtaken ones."""
    mark = _AHEAD if ahead else b""
    first = b',"skipped":%d%b' % (skipped, mark) if skipped else mark
    for offset, tail in tails:
        yield offset, first + tail
        first = mark


def _batches(messages: Iterable[ChannelMessage], form: WireFormat) -> Iterator[tuple[int, bytes]]:
    """Yield the offsets and tails of batches, each full or the last."""
    first, size, bodies = 0, 0, list[bytes]()
    for message in messages:
        body = message.in_batch(form.dialect)
        bodies.append(body)
        size += len(body)
        if size >= BATCH_BYTES:
            yield first, _batch_tail(bodies)
            first, size, bodies = first + len(bodies), 0, []
    if bodies:
        yield first, _batch_tail(bodies)


def _batch_tail(bodies: Sequence[bytes]) -> bytes:
    return b',"messages":[%b]}' % b",".join(bodies)
