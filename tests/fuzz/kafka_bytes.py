"""Targets for bytes from Kafka: responses of brokers, and the records in them."""

from __future__ import annotations

from typing import Final

import attrs
import orjson

from odin_ws.catalogue import default_catalogue
from odin_ws.catalogue.model import KeyFormat, ValueFormat
from odin_ws.history.record_decoder import InvalidRecord, RecordDecoder
from odin_ws.kafka.protocol import FetchResponse, MalformedResponse
from odin_ws.kafka.record_batches import read_batches
from odin_ws.protocol.encoder import write
from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.json_text import load_json
from odin_ws.protocol.wire_format import wire_format
from odin_ws.records import TopicPartition
from tests.kafka.batch_decoders import check_decoding
from tests.kafka.batches import raw_batch, raw_record
from tests.kafka.protocol.golden import GOLDEN

__all__ = ["check_records", "check_response"]

_MAX_RECORD_BYTES: Final = 1024
_KEY: Final = TopicPartition("odin.trades", 0)
_TOPIC: Final = default_catalogue().topics["odin.trades"]
_READERS: Final = [
    RecordDecoder(attrs.evolve(_TOPIC, key=key, value=value), _MAX_RECORD_BYTES)
    for key in KeyFormat
    for value in ValueFormat
]


def check_response(data: bytes) -> None:
    """Each response of any version is decoded or malformed; the batches of a fetch are read too.

    The first byte selects the response.
    """
    golden = GOLDEN[data[0] % len(GOLDEN)] if data else GOLDEN[0]
    try:
        response = golden.message.decode(golden.version, data[1:])
    except MalformedResponse:
        return
    if isinstance(response, FetchResponse):
        for partition in response.partitions:
            check_decoding(partition.data, 0, partition.aborted)


def check_records(data: bytes) -> None:
    """A record with any key, header and value becomes a message, or is skipped with a reason.

    The first byte selects the topic's format, the next two the lengths of key and header. A message
    is valid JSON, with the value unchanged.
    """
    how, key_size, header_size = (*data[:3], 0, 0, 0)[:3]
    key, header, value = _cut(data[3:], key_size, header_size)
    record = raw_record(0, key=key, value=value, headers=[(header, header), (b"name", None)])
    decoded = read_batches(_KEY, raw_batch(5, record, 1), 5, [], skip_corrupt=True)
    (found,) = decoded.records
    if found.invalid is None:
        assert (found.key, found.value) == (key, value)
    reader = _READERS[how % len(_READERS)]
    read = reader.read(found)
    if isinstance(read, InvalidRecord):
        return
    for dialect in Dialect:
        _check_message(read[0], dialect)


def _check_message(message: ChannelMessage, dialect: Dialect) -> None:
    frame = write([message], 1, wire_format(dialect))
    # Not the first brace: the frame's header may have a length of 123 bytes, which is one.
    text = frame[frame.index(b'{"') :]
    # JSON that Python reads and orjson does not, such as large numbers, is passed on unchanged.
    load_json(text.decode())
    assert message.value in text
    try:
        value = orjson.loads(message.value)
    except orjson.JSONDecodeError:
        return
    assert value in orjson.loads(text).values()


def _cut(data: bytes, *sizes: int) -> tuple[bytes, ...]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return (*parts, data)
