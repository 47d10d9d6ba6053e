"""Message sets of magic 0 and 1 that are malformed inside a correct checksum."""

from __future__ import annotations

import gzip
import struct
from typing import Literal

import pytest

from odin_ws.kafka.errors import BatchDecodeError
from odin_ws.kafka.message_sets import read_messages
from odin_ws.records import InvalidBatch
from tests.kafka.batch_decoders import KEY
from tests.kafka.batches import legacy, legacy_wrapper

GZIP = 1


def reason(data: bytes) -> InvalidBatch:
    """Why a message cannot be decoded."""
    with pytest.raises(BatchDecodeError) as raised:
        read_messages(KEY, memoryview(data), 0)
    return raised.value.reason


def wrapped(inside: bytes, magic: Literal[0, 1] = 0, last: int = 2) -> bytes:
    """A compressed set with these messages."""
    return legacy_wrapper(last, gzip.compress(inside), magic=magic, codec=GZIP)


def test_null_value_of_a_wrapper_is_malformed() -> None:
    """A wrapper's value is the compressed set."""
    made = bytearray(legacy(0, 1, magic=0))
    made[17] |= GZIP
    made[-5:] = struct.pack(">i", -1)
    made[8:12] = struct.pack(">i", len(made) - 12)
    assert reason(bytes(made)) is InvalidBatch.MALFORMED_BATCH


@pytest.mark.parametrize(
    "inside",
    [
        b"",
        legacy(0, 1, magic=0)[:10],
        legacy(0, 3, magic=0)[:-1],
        wrapped(legacy(0, 3, magic=0)),
        legacy(1, 1, magic=0) + legacy(1, 1, magic=0),
        legacy(3, 1, magic=0),
    ],
    ids=["empty", "header", "value", "nested", "descending", "beyond the wrapper"],
)
def test_malformed_set_is_reported(inside: bytes) -> None:
    """Cut off, compressed twice, or with offsets that its wrapper cannot have."""
    assert reason(wrapped(inside)) is InvalidBatch.MALFORMED_BATCH


@pytest.mark.parametrize("cut", [1, 4, 14])
def test_message_shorter_than_its_fields_is_malformed(cut: int) -> None:
    """Its own length may be right."""
    made = legacy(0, 1)[:-cut]
    made = made[:8] + struct.pack(">i", len(made) - 12) + made[12:]
    assert reason(made) is InvalidBatch.MALFORMED_BATCH


def test_bytes_after_the_value_are_malformed() -> None:
    """A message has exactly its fields."""
    made = legacy(0, 1) + b"x"
    made = made[:8] + struct.pack(">i", len(made) - 12) + made[12:]
    assert reason(made) is InvalidBatch.MALFORMED_BATCH
    assert reason(legacy(0, 1) + b"x") is InvalidBatch.MALFORMED_BATCH


def test_log_append_time_of_the_wrapper_replaces_those_inside() -> None:
    """The broker sets the time of the wrapper only."""
    made = bytearray(wrapped(legacy(0, 3, timestamp=5), magic=1))
    made[17] |= 0x08
    records, _ = read_messages(KEY, memoryview(bytes(made)), 0)
    assert [(record.offset, record.timestamp) for record in records] == [
        (0, 1_000),
        (1, 1_000),
        (2, 1_000),
    ]
