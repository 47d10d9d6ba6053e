"""Encodes and compresses messages once for many subscribers: live ones by cycle, and replays."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import attrs

from odin_ws.hub.subscriber import Due
from odin_ws.protocol.deflate import STORED_BYTES, Compressor
from odin_ws.protocol.encoder import Encoded, Pack, encode_steps
from odin_ws.protocol.envelope import ChannelMessage
from odin_ws.protocol.permessage_deflate import NO_WINDOW
from odin_ws.protocol.wire_format import WireFormat
from odin_ws.steps import Steps, finish

__all__ = ["Compressors", "CycleEncoder", "ReplayEncoder"]

# Below it no codes pay for themselves.
_LEAST_BYTES: Final = 64

# Shared by so many, compression is paid for: 17 us for a message, 60 us for a batch of ten, where
# one write takes 8 us.
_ENOUGH: Final = 16

# What fewer receive is compressed from this size on, and no more than so many bytes a cycle: at
# 20 ns a byte that takes 1.3 ms, whatever the number of lists that nobody shares.
_LEAST_BYTES_FOR_FEW: Final = 4 << 10
_BYTES_FOR_FEW: Final = 64 << 10

# Clients that were cut off together come back to the same chunks of the past: so many are kept
# encoded, of 64 KiB each. In a crowd there are some for each channel.
_REPLAYS_KNOWN: Final = 64


class Compressors:
    """One compressor per window, made when the first client needs it: each takes 268 KB."""

    def __init__(self) -> None:
        self._by_window: dict[int, Compressor] = {}

    def compress(self, tail: bytes, window_bits: int) -> bytes | None:
        """The blocks of a tail; None if they are not shorter."""
        compressor = self._by_window.get(window_bits)
        if compressor is None:
            compressor = self._by_window[window_bits] = Compressor(window_bits)
        packed = compressor.compress(tail)
        return packed if len(packed) + STORED_BYTES < len(tail) else None


class CycleEncoder:
    """Encodes what is due in a cycle: each list once for all subscribers of one format."""

    def __init__(self, compressors: Compressors) -> None:
        self._compressors = compressors
        # The list is kept with its frames: an id is only unique while its object lives.
        self._encoded: dict[tuple[int, WireFormat], tuple[Due, Encoded]] = {}
        self._packed: dict[tuple[bytes, int], bytes | None] = {}
        self._for_few = _BYTES_FOR_FEW

    def end(self) -> None:
        """Forget the cycle that has ended."""
        self._encoded.clear()
        self._packed.clear()
        self._for_few = _BYTES_FOR_FEW

    def find(self, pending: Due, form: WireFormat) -> Encoded | None:
        """What was encoded in this cycle."""
        known = self._encoded.get((id(pending), form))
        return None if known is None else known[1]

    def steps(self, pending: Due, form: WireFormat) -> Steps[Encoded]:
        """Encode what is due, compressed where that pays."""
        pack = None if form.window_bits == NO_WINDOW else self._pack(pending.receivers, form)
        encoded = yield from encode_steps(
            pending, form, pack, skipped=pending.skipped, ahead=pending.ahead
        )
        if pending.receivers > 1:
            self._encoded[id(pending), form] = pending, encoded
        return encoded

    def is_written_alone(self, pending: Due, form: WireFormat) -> bool:
        """Whether one subscriber gets this, and without compression: then nothing is shared."""
        return pending.receivers == 1 and (
            form.window_bits == NO_WINDOW
            or sum(len(message.value) for message in pending) < _LEAST_BYTES_FOR_FEW
        )

    def _pack(self, receivers: int, form: WireFormat) -> Pack:
        window_bits = form.window_bits

        def pack(tail: bytes) -> bytes | None:
            key = tail, window_bits
            if key in self._packed:
                return self._packed[key]
            size = len(tail)
            if receivers < _ENOUGH:
                if not _LEAST_BYTES_FOR_FEW <= size <= self._for_few:
                    return None
                self._for_few -= size
            elif size < _LEAST_BYTES:
                return None
            packed = self._packed[key] = self._compressors.compress(tail, window_bits)
            return packed

        return pack


@attrs.define(eq=False)
class _Replayed:
    """Messages that were replayed to somebody; `shared`: to a second one too."""

    form: WireFormat
    messages: Sequence[ChannelMessage]
    encoded: Encoded
    shared: bool = False


class ReplayEncoder:
    """Encodes what is replayed: a crowd gets the same chunks.

    A chunk is compressed when a second client gets it: one alone would wait for it longer.
    """

    def __init__(self, compressors: Compressors) -> None:
        self._compressors = compressors
        self._known: deque[_Replayed] = deque(maxlen=_REPLAYS_KNOWN)

    def encode(self, messages: Sequence[ChannelMessage], form: WireFormat) -> Encoded:
        """The frames of replayed messages."""
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
        """Let go of everything: nobody is to be replayed to now."""
        self._known.clear()

    def _compress(self, messages: Sequence[ChannelMessage], form: WireFormat) -> Encoded:
        def pack(tail: bytes) -> bytes | None:
            if len(tail) < _LEAST_BYTES:
                return None
            return self._compressors.compress(tail, form.window_bits)

        return finish(encode_steps(messages, form, pack, replay=True))
