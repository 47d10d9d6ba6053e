"""Decompresses record batches, up to a size limit."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

import cramjam

from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.records import InvalidBatch

__all__ = ["MAX_EXPANDED_BYTES", "decompress", "with_lz4_header_checksum"]

# A topic's message.max.bytes bounds the compressed batch: 1 MiB by default, and JSON compresses to
# a tenth. This bound is the memory that one batch may take.
MAX_EXPANDED_BYTES: Final = 64 << 20

# The maximum expansion of one compressed byte with gzip and snappy.
_GZIP_RATIO: Final = 1032
_SNAPPY_RATIO: Final = 32

# cramjam's only sign of a buffer that is too small.
_TOO_SMALL: Final = "failed to write whole buffer"

# The first guess of the expanded size as a multiple of the compressed size, and its growth.
_RATIO: Final = 8
_SMALLEST_GUESS: Final = 16 << 10

# 16 for gzip's header and trailer, 15 for the largest window.
_GZIP: Final = 16 + zlib.MAX_WBITS

# Publishers write one member. zlib copies what follows each member: a thousand empty ones would
# take seconds.
_MAX_MEMBERS: Final = 16

# Java's snappy writes blocks after this header: magic, version, compatible version.
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES: Final = 16
_BLOCK_LENGTH: Final = struct.Struct(">i")

# The header of an LZ4 frame: magic number, flags, block size; 8 bytes if the flags announce the
# content's size, 4 bytes if they announce a dictionary's id; one byte of checksum.
_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"
_LZ4_FLAGS_AT: Final = 4
_LZ4_CONTENT_SIZE: Final = 0x08
_LZ4_DICTIONARY_ID: Final = 0x01

# The constants of XXH32 (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
_XXH32_PRIMES: Final = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1)
_XXH32_LANE: Final = struct.Struct("<I")
_UINT32: Final = 0xFFFFFFFF


def decompress(codec: int, data: memoryview) -> bytes | bytearray | memoryview:
    """Decompress `data` with Kafka's codec number `codec`. Raises BatchDecodeError."""
    reader = _READERS.get(codec)
    if reader is None:
        raise BatchDecodeError(InvalidBatch.BAD_COMPRESSION)
    try:
        return reader(data)
    except (cramjam.DecompressionError, zlib.error, struct.error) as error:
        ratio = {1: _GZIP_RATIO, 2: _SNAPPY_RATIO}.get(codec, 0)
        cost = min(ratio * len(data), MAX_EXPANDED_BYTES)
        raise BatchDecodeError(InvalidBatch.BAD_COMPRESSION, cost) from error


def with_lz4_header_checksum(data: memoryview) -> memoryview:
    """Return an LZ4 frame with the right header checksum; other data unchanged.

    Publishers before Kafka 0.10 computed the checksum over the frame's magic number too
    (KAFKA-3160), and brokers keep their batches. The batch has a checksum of its own.
    """
    if bytes(data[:_LZ4_FLAGS_AT]) != _LZ4_MAGIC or len(data) <= _LZ4_FLAGS_AT:
        return data
    flags = data[_LZ4_FLAGS_AT]
    size = 2 + 8 * bool(flags & _LZ4_CONTENT_SIZE) + 4 * bool(flags & _LZ4_DICTIONARY_ID)
    at = _LZ4_FLAGS_AT + size
    if len(data) <= at:
        return data
    repaired = bytearray(data)
    repaired[at] = _xxh32(data[_LZ4_FLAGS_AT:at]) >> 8 & 0xFF
    return memoryview(repaired)


def _xxh32(data: memoryview) -> int:
    """Return XXH32 of less than 16 bytes, with seed 0."""
    first, second, third, fourth, fifth = _XXH32_PRIMES
    value = fifth + len(data)
    whole = len(data) - len(data) % _XXH32_LANE.size
    for (lane,) in _XXH32_LANE.iter_unpack(data[:whole]):
        value = _rotated(value + lane * third, 17) * fourth
    for byte in data[whole:]:
        value = _rotated(value + byte * fifth, 11) * first
    value &= _UINT32
    value = (value ^ value >> 15) * second & _UINT32
    value = (value ^ value >> 13) * third & _UINT32
    return value ^ value >> 16


def _rotated(value: int, bits: int) -> int:
    value &= _UINT32
    return (value << bits | value >> (32 - bits)) & _UINT32


def _gzip(data: memoryview) -> bytes:
    parts: list[bytes] = []
    size = 0
    left: bytes | memoryview = data
    while left or not parts:
        if len(parts) == _MAX_MEMBERS:
            raise BatchDecodeError(InvalidBatch.BAD_COMPRESSION, size)
        member = zlib.decompressobj(_GZIP)
        part = member.decompress(left, MAX_EXPANDED_BYTES - size + 1)
        size += len(part)
        if size > MAX_EXPANDED_BYTES:
            raise BatchDecodeError(InvalidBatch.BATCH_TOO_LARGE, size)
        if not member.eof:
            raise BatchDecodeError(InvalidBatch.BAD_COMPRESSION, size)
        parts.append(part)
        left = member.unused_data
    return b"".join(parts)


def _snappy(data: memoryview) -> bytes:
    if data[: len(_XERIAL)].tobytes() != _XERIAL:
        return _snappy_block(data, 0)
    parts: list[bytes] = []
    size = 0
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        (length,) = _BLOCK_LENGTH.unpack_from(data, at)
        at += _BLOCK_LENGTH.size
        if not 0 < length <= len(data) - at:
            raise BatchDecodeError(InvalidBatch.BAD_COMPRESSION, size)
        part = _snappy_block(data[at : at + length], size)
        parts.append(part)
        size += len(part)
        at += length
    return b"".join(parts)


def _snappy_block(data: memoryview, before: int) -> bytes:
    """Decompress a block, which begins with its expanded size; `before`: size of earlier blocks."""
    if before + cramjam.snappy.decompress_raw_len(data) > MAX_EXPANDED_BYTES:
        raise BatchDecodeError(InvalidBatch.BATCH_TOO_LARGE, before)
    return bytes(cramjam.snappy.decompress_raw(data))


def _into(
    decompress_into: Callable[[memoryview, bytearray], int],
) -> Callable[[memoryview], memoryview]:
    """Decompress into a buffer that grows as needed, up to the bound."""

    def read(data: memoryview) -> memoryview:
        room = _SMALLEST_GUESS + _RATIO * len(data)
        while True:
            room = min(room, MAX_EXPANDED_BYTES)
            buffer = bytearray(room)
            try:
                return memoryview(buffer)[: decompress_into(data, buffer)]
            except cramjam.DecompressionError as error:
                # Garbage needs no larger buffer: allocating one would take longer than all else.
                if _TOO_SMALL not in str(error):
                    raise BatchDecodeError(InvalidBatch.BAD_COMPRESSION, room) from error
            if room == MAX_EXPANDED_BYTES:
                raise BatchDecodeError(InvalidBatch.BATCH_TOO_LARGE, room)
            room *= _RATIO

    return read


_READERS: Final[dict[int, Callable[[memoryview], bytes | bytearray | memoryview]]] = {
    1: _gzip,
    2: _snappy,
    3: _into(cramjam.lz4.decompress_into),
    4: _into(cramjam.zstd.decompress_into),
}
