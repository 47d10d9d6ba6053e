"""Kafka's primitive types (https://kafka.apache.org/protocol#protocol_types), written and read.

In flexible versions (KIP-482) lengths are varints that count from one, and each structure ends with
tagged fields. A `Writer` and a `Reader` have a flag for that.

kio (PyPI) has all of Kafka's requests. Its reader allocates an array by the length that the
response claims, which can end the process. So odin-ws does not use it.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

__all__ = ["MalformedResponse", "Reader", "Writer"]

T = TypeVar("T")

_INT8: Final = struct.Struct(">b")
_INT16: Final = struct.Struct(">h")
_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")

_UUID_BYTES: Final = 16

# An unsigned 32-bit varint has at most five bytes.
_VARINT_BITS: Final = 35


class MalformedResponse(Exception):
    """The bytes of a response do not match its version; the text says how."""


class Writer:
    """Writes the body of a request."""

    def __init__(self, *, flexible: bool) -> None:
        self.flexible = flexible
        self._parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        """The bytes written so far."""
        return b"".join(self._parts)

    def int8(self, value: int) -> None:
        """Write a signed integer of one byte."""
        self._parts.append(_INT8.pack(value))

    def int32(self, *values: int) -> None:
        """Write signed integers of four bytes."""
        self._parts.extend(map(_INT32.pack, values))

    def int64(self, *values: int) -> None:
        """Write signed integers of eight bytes."""
        self._parts.extend(map(_INT64.pack, values))

    def text(self, value: str) -> None:
        """Write a string."""
        data = value.encode()
        if self.flexible:
            self._varint(len(data) + 1)
        else:
            self._parts.append(_INT16.pack(len(data)))
        self._parts.append(data)

    def topic_id(self, value: str | None) -> None:
        """Write an id of 32 hexadecimal digits; None for no id."""
        self._parts.append(bytes(_UUID_BYTES) if value is None else uuid.UUID(value).bytes)

    def array(self, items: Iterable[T], write: Callable[[T], None]) -> None:
        """Write an array, each item by `write`."""
        values = list(items)
        if self.flexible:
            self._varint(len(values) + 1)
        else:
            self.int32(len(values))
        for item in values:
            write(item)

    def tags(self) -> None:
        """Write the end of a structure, without tagged fields."""
        if self.flexible:
            self._parts.append(b"\0")

    def _varint(self, value: int) -> None:
        data = bytearray()
        while value >= 0x80:
            data.append(value & 0x7F | 0x80)
            value >>= 7
        data.append(value)
        self._parts.append(bytes(data))


class Reader:
    """Reads the body of a response. All methods raise MalformedResponse."""

    def __init__(self, body: bytes, *, flexible: bool) -> None:
        self.flexible = flexible
        self._body = body
        self._at = 0

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        """Read several integers at once."""
        try:
            found = layout.unpack_from(self._body, self._at)
        except struct.error as error:
            raise MalformedResponse("the response ends in the middle of a number") from error
        self._at += layout.size
        return found

    def int16(self) -> int:
        """Read a signed integer of two bytes."""
        return self.numbers(_INT16)[0]

    def int32(self) -> int:
        """Read a signed integer of four bytes."""
        return self.numbers(_INT32)[0]

    def int64(self) -> int:
        """Read a signed integer of eight bytes."""
        return self.numbers(_INT64)[0]

    def boolean(self) -> bool:
        """Read a boolean."""
        return bool(self.numbers(_INT8)[0])

    def text(self) -> str | None:
        """Read a string; None if it is null."""
        data = self._sized(_INT16)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise MalformedResponse(f"a string is not UTF-8: {error.reason}") from error

    def data(self) -> bytes:
        """Read bytes; empty if null."""
        return self._sized(_INT32) or b""

    def topic_id(self) -> str | None:
        """Read an id as 32 hexadecimal digits; None if there is none."""
        found = self._take(_UUID_BYTES)
        return found.hex() if any(found) else None

    def array(self, read: Callable[[], T]) -> list[T]:
        """Read an array, each item by `read`; empty if null."""
        length = self._varint() - 1 if self.flexible else self.int32()
        # Each item has at least one byte: a larger length is invalid.
        if length > len(self._body) - self._at:
            raise MalformedResponse(f"an array of {length} items does not fit into the response")
        return [read() for _ in range(length)]

    def tags(self) -> None:
        """Skip the tagged fields at the end of a structure."""
        if self.flexible:
            for _ in range(self._varint()):
                self._varint()
                self._take(self._varint())

    def _sized(self, size: struct.Struct) -> bytes | None:
        length = self._varint() - 1 if self.flexible else self.numbers(size)[0]
        return None if length < 0 else self._take(length)

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._body):
            raise MalformedResponse(f"{length} bytes do not fit into the response")
        found = self._body[self._at : end]
        self._at = end
        return found

    def _varint(self) -> int:
        value = shift = 0
        while shift < _VARINT_BITS:
            (byte,) = self._take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # the highest bit says that another byte follows
                return value
            shift += 7
        raise MalformedResponse("a length of more than five bytes")
