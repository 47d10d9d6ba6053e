"""Records keep the selected headers, whichever decoder reads them."""

from __future__ import annotations

import pytest

from odin_ws.kafka.record_batches import read_batches
from odin_ws.kafka.record_headers import MAX_HEADER_BYTES
from odin_ws.records import RecordHeaders
from tests.kafka.batch_decoders import COMPRESS, KEY
from tests.kafka.batches import raw_batch, raw_record

NAMES = frozenset({"traceparent", "tenant"})
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# What aiokafka does not read, so that the slow decoder does: a header key that is not UTF-8.
ODD = (b"\xff", b"x")


def headers(
    several: list[tuple[bytes, bytes | None]], names: frozenset[str] = NAMES, codec: int = 0
) -> list[RecordHeaders]:
    """What is kept of each of two records with these headers."""
    records = raw_record(0, headers=several) + raw_record(1, headers=several)
    if codec:
        records = COMPRESS[codec](records)
    decoded = read_batches(
        KEY, raw_batch(0, records, 2, attributes=codec), 0, None, header_names=names
    )
    assert [record.value for record in decoded.records] == [b"{}", b"{}"]
    return [record.headers for record in decoded.records]


@pytest.mark.parametrize("odd", [[], [ODD]], ids=["fast", "slow"])
@pytest.mark.parametrize("codec", [0, *COMPRESS])
def test_only_selected_headers_are_kept(odd: list[tuple[bytes, bytes | None]], codec: int) -> None:
    """In the order of the record; values are bytes or null."""
    several = [(b"other", b"x"), (b"traceparent", TRACE), (b"tenant", None), *odd]
    kept = (("traceparent", TRACE), ("tenant", None))
    assert headers(several, codec=codec) == [kept, kept]
    assert headers(several, frozenset(), codec) == [(), ()]
    assert headers([(b"other", b"x"), *odd], codec=codec) == [(), ()]


@pytest.mark.parametrize("odd", [[], [ODD]], ids=["fast", "slow"])
def test_last_of_repeated_headers_is_kept(odd: list[tuple[bytes, bytes | None]]) -> None:
    """Names are case-sensitive."""
    several = [*odd, (b"tenant", b"1"), (b"Tenant", b"2"), (b"tenant", b"3")]
    assert headers(several) == [(("tenant", b"3"),)] * 2


@pytest.mark.parametrize("odd", [[], [ODD]], ids=["fast", "slow"])
def test_long_header_is_dropped(odd: list[tuple[bytes, bytes | None]]) -> None:
    """The others are kept."""
    several = [*odd, (b"tenant", b"x" * (MAX_HEADER_BYTES + 1)), (b"traceparent", TRACE)]
    assert headers(several) == [(("traceparent", TRACE),)] * 2
    assert headers([*odd, (b"tenant", b"x" * MAX_HEADER_BYTES)])[0] != ()


def test_record_with_malformed_headers_is_read() -> None:
    """Headers come after key and value."""
    good = raw_record(0, headers=[(b"tenant", b"1"), ODD])
    # Its length is in the first byte: the last header is cut off.
    cut = bytes([good[0] - 2]) + good[1:-1]
    decoded = read_batches(KEY, raw_batch(0, cut, 1), 0, None, header_names=NAMES)
    assert [(record.value, record.headers) for record in decoded.records] == [
        (b"{}", (("tenant", b"1"),))
    ]
