"""Requests about permissions and settings, against bytes written field by field."""

from __future__ import annotations

import struct

import pytest

from odin_ws.kafka.protocol import (
    DescribeConfigsRequest,
    DescribeGroupRequest,
    GroupPermissions,
    MalformedResponse,
    MetadataRequest,
    Operation,
    TopicConfig,
)
from odin_ws.kafka.protocol.permissions import read_permissions

GROUPS, CONFIGS, METADATA = 15, 32, 3


def text(value: str | None, *, compact: bool) -> bytes:
    """A string of the protocol."""
    if value is None:
        return b"\x00" if compact else b"\xff\xff"
    size = bytes([len(value) + 1]) if compact else struct.pack("!h", len(value))
    return size + value.encode()


def array(*items: bytes, compact: bool) -> bytes:
    """An array of the protocol."""
    return (bytes([len(items) + 1]) if compact else struct.pack("!i", len(items))) + b"".join(items)


@pytest.mark.parametrize(
    ("bits", "permissions"),
    [
        (-(1 << 31), None),
        (0, set()),
        (1 << 3 | 1 << 8, {Operation.READ, Operation.DESCRIBE}),
        (0b1101_1111_1000, {*Operation}),
    ],
)
def test_rights_are_decoded_from_bits(bits: int, permissions: set[Operation] | None) -> None:
    """Unknown operations are ignored."""
    assert read_permissions(bits) == permissions


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_describe_configs(version: int) -> None:
    """Documentation can be requested from version 3 on; version 4 has tagged fields."""
    compact = version >= 4
    tags = b"\x00" * compact
    request = DescribeConfigsRequest(["t"], ["retention.ms"])
    names = array(text("retention.ms", compact=compact), compact=compact)
    topic = b"\x02" + text("t", compact=compact) + names + tags
    sent = request.encode({CONFIGS: (1, version)})
    assert sent.api_version == version
    assert sent.flexible is compact
    expected = array(topic, compact=compact) + b"\x00" * (1 + (version >= 3)) + tags
    assert sent.body == expected
    value = (
        text("retention.ms", compact=compact)
        + text("60000", compact=compact)
        + b"\x00\x05\x00"
        + array(
            text("retention.ms", compact=compact) + text("1", compact=compact) + b"\x05" + tags,
            compact=compact,
        )
        + (b"\x05" + text(None, compact=compact)) * (version >= 3)
        + tags
    )
    denied = struct.pack("!h", 29) + text("no", compact=compact) + b"\x02"
    body = struct.pack("!i", 0) + array(
        struct.pack("!h", 0)
        + text(None, compact=compact)
        + b"\x02"
        + text("t", compact=compact)
        + array(value, compact=compact)
        + tags,
        denied + text("u", compact=compact) + array(compact=compact) + tags,
        compact=compact,
    )
    assert request.decode(version, body + tags) == {
        "t": TopicConfig(0, {"retention.ms": "60000"}),
        "u": TopicConfig(29, {}),
    }
    with pytest.raises(MalformedResponse):
        request.decode(version, body[:-4])


@pytest.mark.parametrize("version", [3, 4, 5])
def test_describe_group(version: int) -> None:
    """Version 4 has instance ids, version 5 tagged fields."""
    compact = version >= 5
    tags = b"\x00" * compact
    request = DescribeGroupRequest("g")
    sent = request.encode({GROUPS: (0, version)})
    assert sent.body == array(text("g", compact=compact), compact=compact) + b"\x01" + tags
    data = b"\x03ab" if compact else struct.pack("!i", 2) + b"ab"
    member = (
        text("m", compact=compact)
        + text(None, compact=compact) * (version >= 4)
        + text("client", compact=compact)
        + text("/host", compact=compact)
        + data * 2
        + tags
    )
    group = (
        struct.pack("!h", 0)
        + b"".join(text(one, compact=compact) for one in ("g", "Stable", "consumer", "range"))
        + array(member, compact=compact)
        + struct.pack("!i", 1 << 3)
        + tags
    )
    body = struct.pack("!i", 0) + array(group, compact=compact) + tags
    assert request.decode(version, body) == GroupPermissions(0, frozenset({Operation.READ}))
    nothing = struct.pack("!i", 0) + array(compact=compact) + tags
    assert request.decode(version, nothing) is None


@pytest.mark.parametrize(("version", "asked"), [(7, False), (8, True), (12, True)])
def test_metadata_requests_rights_from_version_8_on(version: int, *, asked: bool) -> None:
    """Older brokers lack the field."""
    versions = {METADATA: (0, version)}
    plain = MetadataRequest(["t"]).encode(versions).body
    permissions = MetadataRequest(["t"], permissions=True).encode(versions).body
    assert (plain != permissions) is asked
