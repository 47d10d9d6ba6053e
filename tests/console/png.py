"""Makes a screenshot small: a PNG with a palette of 256 colours."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

__all__ = ["read_pixels", "shrink"]

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
COLOURS: Final = 256

# The square of a distance of seven steps in each of red, green and blue.
UNLIKE: Final = 150

Colours = np.ndarray[Any, np.dtype[np.int32]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def shrink(png: bytes) -> bytes:
    """Return a PNG in which each pixel has the nearest colour of a palette."""
    pixels = read_pixels(png)
    height, width, _ = pixels.shape
    keys = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, where, counts = np.unique(keys.ravel(), return_inverse=True, return_counts=True)
    rgb = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.int32)
    palette = _palette(rgb[np.argsort(-counts, kind="stable")])
    nearest = np.array([np.argmin(((palette - one) ** 2).sum(axis=1)) for one in rgb], np.uint8)
    rows = nearest[where].reshape(height, width)
    # A filter type of 0 before each row: a palette has nothing to predict.
    data = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        _chunk(b"IHDR", head),
        _chunk(b"PLTE", palette.astype(np.uint8).tobytes()),
        _chunk(b"IDAT", zlib.compress(data, 9)),
        _chunk(b"IEND", b""),
    )
    return SIGNATURE + b"".join(chunks)


def _palette(colours: Colours) -> Colours:
    """Return the first of `colours`, and later ones that are unlike these."""
    if len(colours) <= COLOURS:
        return colours
    chosen = list(colours[: COLOURS // 4])
    for colour in colours[COLOURS // 4 :]:
        if ((np.array(chosen) - colour) ** 2).sum(axis=1).min() > UNLIKE:
            chosen.append(colour)
        if len(chosen) == COLOURS:
            break
    return np.array(chosen)


def read_pixels(png: bytes) -> Pixels:
    """Return height x width x 3 bytes of a PNG as Chromium writes it, or as `shrink` does."""
    chunks = list(_chunks(png))
    width, height, depth, kind = struct.unpack(">IIBB", chunks[0][1][:10])
    assert (depth, kind in {2, 3, 6}) == (8, True), "8 bits, colours or a palette"
    size = {2: 3, 3: 1, 6: 4}[kind]
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    lines = np.frombuffer(data, np.uint8).reshape(height, 1 + width * size)
    rows = np.zeros((height, width, size), np.uint8)
    before = np.zeros((width, size), np.uint8)
    for number, line in enumerate(lines):
        before = rows[number] = _unfiltered(line[0], line[1:].reshape(width, size), before)
    if kind == 3:
        palette = np.frombuffer(dict(chunks)[b"PLTE"], np.uint8).reshape(-1, 3)
        return palette[rows[:, :, 0]]
    return rows[:, :, :3]


def _unfiltered(kind: int, row: Pixels, above: Pixels) -> Pixels:
    """Undo the filter of a row (PNG, 9.2)."""
    match kind:
        case 0:
            return row
        case 1:
            return np.cumsum(row, axis=0, dtype=np.uint8)
        case 2:
            return row + above
    result = np.zeros_like(row)
    for channel in range(row.shape[1]):
        left = corner = 0
        values, ups = row[:, channel].tolist(), above[:, channel].tolist()
        made = []
        for value, up in zip(values, ups, strict=True):
            guess = (left + up) // 2 if kind == 3 else _paeth(left, up, corner)
            left, corner = (value + guess) & 255, up
            made.append(left)
        result[:, channel] = made
    return result


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        at += 12 + size
