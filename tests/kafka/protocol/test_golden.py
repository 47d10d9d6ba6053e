"""Requests and responses of each version against the bytes of another implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from odin_ws.kafka.protocol import (
    MAX_TIMESTAMP,
    BrokerAddress,
    EncodedRequest,
    EpochEndOffset,
    FetchedPartition,
    FetchResponse,
    ListOffsetsRequest,
    MalformedResponse,
    Metadata,
    OffsetFound,
    PartitionLayout,
    TopicLayout,
    UnsupportedVersion,
)
from tests.kafka.protocol.golden import (
    COMMITTED,
    FIRST,
    FOURTH,
    GOLDEN,
    NEWS,
    OTHER,
    TOPIC_ID,
    TRADES,
    Golden,
)

# The first version of each API whose headers and structures have tagged fields.
FLEXIBLE_FROM = {"Fetch": 12, "Metadata": 9, "ListOffsets": 6, "OffsetForLeaderEpoch": 4}


def of(name: str) -> Sequence[Any]:
    """The versions of one API."""
    return [pytest.param(one, id=str(one)) for one in GOLDEN if one.name == name]


@pytest.mark.parametrize("golden", GOLDEN, ids=str)
def test_request_has_the_bytes_of_its_version(golden: Golden) -> None:
    """Sent to a broker with only that version."""
    sent = golden.message.encode({golden.key: (golden.version, golden.version)})
    flexible = golden.version >= FLEXIBLE_FROM.get(golden.name, 99)
    assert sent == EncodedRequest(golden.key, golden.version, flexible, golden.request)


@pytest.mark.parametrize("golden", of("Metadata"))
def test_metadata(golden: Golden) -> None:
    """Leader epochs from version 9 on (KAFKA-9212), topic ids from version 10 on."""
    epoch = 5 if golden.version >= 9 else -1
    topic_id = TOPIC_ID if golden.version >= 10 else None
    partitions = {0: PartitionLayout(1, epoch, 0), 3: PartitionLayout(None, -1, 5)}
    assert golden.message.decode(golden.version, golden.response) == Metadata(
        {1: BrokerAddress("kafka-1.example", 9092), 2: BrokerAddress("::1", 9093)},
        {TRADES: TopicLayout(0, topic_id, partitions), NEWS: TopicLayout(3, None, {})},
    )


@pytest.mark.parametrize("golden", of("Fetch"))
def test_fetch(golden: Golden) -> None:
    """Sessions from version 7 on; topic ids from version 13 on."""
    aborted = [(9, 1_234_567_890_150)]
    assert golden.message.decode(golden.version, golden.response) == FetchResponse(
        0,
        77 if golden.version >= 7 else 0,
        [
            FetchedPartition(FIRST, 0, 1_234_567_890_200, 1_234_567_890_190, aborted, b"records"),
            FetchedPartition(FOURTH, 6, -1, -1, [], b""),
        ],
        throttle_seconds=0.01,
        by_id=golden.version >= 13,
    )


@pytest.mark.parametrize("golden", of("ListOffsets"))
def test_list_offsets(golden: Golden) -> None:
    """Each partition has its own error and timestamp; epochs from version 4 on."""
    epochs = (5, 0) if golden.version >= 4 else (-1, -1)
    assert golden.message.decode(golden.version, golden.response) == {
        FIRST: OffsetFound(0, 42, epochs[0]),
        FOURTH: OffsetFound(6, -1),
        OTHER: OffsetFound(0, 7, epochs[1], 1_700_000_000_000),
    }


@pytest.mark.parametrize("golden", of("ListOffsets"))
def test_missing_end_and_beginning_are_not_available(golden: Golden) -> None:
    """A reader that begins at -1 would be sent to the log's beginning, and deliver it as new."""
    none = (-1).to_bytes(8, "big", signed=True)
    body = golden.response.replace((42).to_bytes(8, "big"), none)
    body = body.replace((7).to_bytes(8, "big"), none)
    found = golden.message.decode(golden.version, body)
    assert {key: (one.error, one.offset) for key, one in found.items()} == {
        FIRST: (78, -1),
        FOURTH: (6, -1),
        OTHER: (78, -1),
    }


@pytest.mark.parametrize("golden", of("OffsetForLeaderEpoch"))
def test_epoch_without_an_end_is_unknown(golden: Golden) -> None:
    """It would be a truncation of the whole log."""
    none = (-1).to_bytes(8, "big", signed=True)
    body = golden.response.replace((42).to_bytes(8, "big"), none)
    assert golden.message.decode(golden.version, body)[FIRST] == EpochEndOffset(0, -1, -1)


@pytest.mark.parametrize("golden", of("OffsetForLeaderEpoch"))
def test_epoch_ends(golden: Golden) -> None:
    """Each partition has its own error."""
    assert golden.message.decode(golden.version, golden.response) == {
        FIRST: EpochEndOffset(0, 5, 42),
        FOURTH: EpochEndOffset(74, -1, -1),
    }


@pytest.mark.parametrize("golden", of("FindCoordinator"))
def test_find_coordinator(golden: Golden) -> None:
    """Only the node id is used; its address is in the metadata."""
    found = golden.message.decode(golden.version, golden.response)
    assert (found.error, found.node) == (0, 2)


@pytest.mark.parametrize("golden", of("OffsetFetch"))
def test_offset_fetch(golden: Golden) -> None:
    """-1 means nothing committed, which is no error."""
    assert golden.message.decode(golden.version, golden.response) == COMMITTED


@pytest.mark.parametrize("golden", [one for one in GOLDEN if one.name == "OffsetFetch"], ids=str)
def test_offset_fetch_error_for_the_whole_group(golden: Golden) -> None:
    """At the end, from version 2 on."""
    if golden.version >= 2:
        body = golden.response[:-2] + (30).to_bytes(2, "big")
        assert golden.message.decode(golden.version, body).error == 30


@pytest.mark.parametrize("golden", GOLDEN, ids=str)
def test_truncated_response_is_malformed(golden: Golden) -> None:
    """At any byte up to the last used field."""
    whole = golden.message.decode(golden.version, golden.response)
    for length in range(len(golden.response)):
        try:
            found = golden.message.decode(golden.version, golden.response[:length])
        except MalformedResponse:
            continue
        assert found == whole
        assert length >= len(golden.response) - 12


def test_partitions_of_an_unrequested_topic_id_are_skipped() -> None:
    """They would be read as another topic's."""
    (golden,) = (one for one in GOLDEN if (one.name, one.version) == ("Fetch", 13))
    other = golden.response.replace(bytes.fromhex(TOPIC_ID), b"\x11" * 16)
    assert golden.message.decode(13, other) == FetchResponse(0, 77, [], 0.01)


def test_youngest_record_needs_version_7() -> None:
    """An older broker would take the value for a timestamp."""
    request = ListOffsetsRequest({FIRST: MAX_TIMESTAMP})
    assert request.encode({2: (1, 7)}).api_version == 7
    with pytest.raises(UnsupportedVersion, match="newest record"):
        request.encode({2: (1, 6)})
