"""Deflate blocks that many messages share: tails are compressed once, heads added per client.

RFC 7692: a compressed message is a sequence of deflate blocks that ends with an empty stored block,
whose last four bytes (00 00 FF FF) are removed. Separately created blocks can follow each other if
each begins at a byte boundary and refers to nothing before it.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

__all__ = ["STORED_BYTES", "Compressor", "stored_header"]

# Level 9 saves 0.3% of the bytes of ten events in one frame and takes 5% more time; level 1 takes
# three quarters of the time for 4% more bytes (docs/design/compression.md).
_LEVEL: Final = 6

# zlib writes raw deflate with windows from 512 bytes (9 bits) on; clients may request 256.
_SMALLEST_WINDOW_BITS: Final = 9

# RFC 7692, 7.2.1: the removed end of a message, which the receiver appends again.
_CUT_BYTES: Final = 4

# RFC 1951, 3.2.4: a block header, the length, and the complement of the length.
STORED_BYTES: Final = 5

_pack_stored = struct.Struct("<BHH").pack


def stored_header(length: int) -> bytes:
    """Return the header of a stored deflate block with `length` bytes (at most 65,535).

    The block is not the last one, and the next one begins at a byte boundary.
    """
    return _pack_stored(0, length, length ^ 0xFFFF)


class Compressor:
    """Compresses texts independently of each other.

    Args:
        window_bits: references go back at most 2 ** window_bits bytes. Below 9 there are no
            references at all, only shorter codes.
    """

    __slots__ = ("_stream",)

    def __init__(self, window_bits: int) -> None:
        narrow = window_bits < _SMALLEST_WINDOW_BITS
        # One stream for all texts: creating another takes as long as compressing 300 bytes.
        self._stream = zlib.compressobj(
            _LEVEL,
            zlib.DEFLATED,
            -max(window_bits, _SMALLEST_WINDOW_BITS),
            zlib.DEF_MEM_LEVEL,
            zlib.Z_HUFFMAN_ONLY if narrow else zlib.Z_DEFAULT_STRATEGY,
        )

    def compress(self, text: bytes) -> bytes:
        """Return the deflate blocks of a non-empty text, as at the end of a message."""
        # A full flush resets the window: the next text cannot refer to this one.
        blocks = self._stream.compress(text) + self._stream.flush(zlib.Z_FULL_FLUSH)
        return blocks[:-_CUT_BYTES]
