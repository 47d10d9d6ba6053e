"""Encodes and compresses messages once for many subscribers: live ones by cycle, and replays."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from odin_ws.hub.stats import Compressed
from odin_ws.hub.subscriber import Due
from odin_ws.protocol.deflate import STORED_BYTES, Compressor
from odin_ws.protocol.encoder import Encoded, Pack, encode_steps
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.permessage_deflate import NO_WINDOW
from odin_ws.protocol.wire_format import WireFormat
from odin_ws.steps import Steps, finish

__all__ = ["Compressors", "CycleEncoder", "ReplayEncoder"]

# Smaller texts do not gain from compression.
_MIN_BYTES: Final = 64

# Compression pays with this many receivers: 17 us for a message, 60 us for a batch of ten, while
# one write takes 8 us.
_ENOUGH: Final = 16

# For fewer receivers, texts are compressed from this size on, and at most this many bytes per
# cycle: at 20 ns per byte that takes 1.3 ms, whatever the number of unshared lists.
_MIN_BYTES_FOR_FEW: Final = 4 << 10
_BYTES_FOR_FEW: Final = 64 << 10

# Clients that disconnected together request the same chunks of history: this many are kept encoded,
# of 64 KiB each. A crowd needs some per channel.
_REPLAYS_KNOWN: Final = 64


class Compressors:
    """One compressor per window size, created on demand: each takes 268 KB."""

    def __init__(self, stats: Compressed) -> None:
        self._stats = stats
        self._by_window: dict[int, Compressor] = {}

    def compress(self, tail: bytes, window_bits: int) -> bytes | None:
        """Return the deflate blocks of a tail; None if they are not shorter."""
        compressor = self._by_window.get(window_bits)
        if compressor is None:
            compressor = self._by_window[window_bits] = Compressor(window_bits)
        begun = time.thread_time()
        packed = compressor.compress(tail)
        stats, is_shorter = self._stats, len(packed) + STORED_BYTES < len(tail)
        stats.seconds += time.thread_time() - begun
        stats.texts += 1
        stats.input_bytes += len(tail)
        stats.output_bytes += len(packed) + STORED_BYTES if is_shorter else len(tail)
        return packed if is_shorter else None


class CycleEncoder:
    """Encodes the messages of a cycle: each list once for all subscribers of one format."""

    def __init__(self, compressors: Compressors) -> None:
        self._compressors = compressors
        # The list is kept with its frames: an id is unique only while its object lives.
        self._encoded: dict[tuple[int, WireFormat], tuple[Due, Encoded]] = {}
        self._packed: dict[tuple[bytes, int], bytes | None] = {}
        self._for_few = _BYTES_FOR_FEW

    def end(self) -> None:
        """Drop the frames of the ended cycle."""
        self._encoded.clear()
        self._packed.clear()
        self._for_few = _BYTES_FOR_FEW

    def find(self, pending: Due, form: WireFormat) -> Encoded | None:
        """Return frames encoded in this cycle, None if there are none."""
        known = self._encoded.get((id(pending), form))
        return None if known is None else known[1]

    def steps(self, pending: Due, form: WireFormat) -> Steps[Encoded]:
        """Encode messages, compressed if that pays."""
        pack = None if form.window_bits == NO_WINDOW else self._pack(pending.receivers, form)
        encoded = yield from encode_steps(
            pending, form, pack, skipped=pending.skipped, ahead=pending.ahead
        )
        if pending.receivers > 1:
            self._encoded[id(pending), form] = pending, encoded
        return encoded

    def is_written_alone(self, pending: Due, form: WireFormat) -> bool:
        """Return whether one subscriber gets the messages uncompressed: nothing is shared."""
        return pending.receivers == 1 and (
            form.window_bits == NO_WINDOW
            or sum(len(message.value) for message in pending) < _MIN_BYTES_FOR_FEW
        )

    def _pack(self, receivers: int, form: WireFormat) -> Pack:
        window_bits = form.window_bits

        def pack(tail: bytes) -> bytes | None:
            key = tail, window_bits
            if key in self._packed:
                return self._packed[key]
            size = len(tail)
            if receivers < _ENOUGH:
                if not _MIN_BYTES_FOR_FEW <= size <= self._for_few:
                    return None
                self._for_few -= size
            elif size < _MIN_BYTES:
                return None
            packed = self._packed[key] = self._compressors.compress(tail, window_bits)
            return packed

        return pack


@attrs.define(eq=False)
class _Replayed:
    """Replayed messages; `shared`: requested by a second client too."""

    form: WireFormat
    messages: Sequence[ChannelMessage]
    encoded: Encoded
    shared: bool = False


class ReplayEncoder:
    """Encodes replayed messages once for all clients that get the same chunk.

    A chunk is compressed when a second client gets it: a single one would only wait longer.
    """

    def __init__(self, compressors: Compressors) -> None:
        self._compressors = compressors
        self._known: deque[_Replayed] = deque(maxlen=_REPLAYS_KNOWN)

    def encode(self, messages: Sequence[ChannelMessage], form: WireFormat) -> Encoded:
        """Return the frames of replayed messages."""
        for known in self._known:
            if known.form is form and known.messages == messages:
                if not known.shared:
                    known.shared = True
                    if form.window_bits != NO_WINDOW:
                        known.encoded = self._compress(messages, form)
                return known.encoded
        encoded = finish(encode_steps(messages, form, replay=True))
        self._known.append(_Replayed(form, messages, encoded))
        return encoded

    def forget(self) -> None:
        """Drop everything, because no replay runs."""
        self._known.clear()

    def _compress(self, messages: Sequence[ChannelMessage], form: WireFormat) -> Encoded:
        def pack(tail: bytes) -> bytes | None:
            if len(tail) < _MIN_BYTES:
                return None
            return self._compressors.compress(tail, form.window_bits)

        return finish(encode_steps(messages, form, pack, replay=True))
