"""permessage-deflate from handshake to close: shared by clients, bounded, and optional."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any, Final

import pytest
import trio

from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.wire import Op, RawClient, request
from tests.wire_decoder import Opcode, frames

OFFER: Final = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
NARROW: Final = {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=12"}
AGREED: Final = (
    b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
    b"client_no_context_takeover"
)
RSV1: Final = 4

# Without pings the first byte that a client receives belongs to a message.
pytestmark = pytest.mark.odin_settings(ws_ping_interval_seconds=3600, ws_pong_timeout_seconds=7200)


def deflate(text: bytes) -> bytes:
    """Return the payload of a compressed message."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def end(client: RawClient, window_bits: int = 15) -> tuple[bytes, list[dict[str, Any]]]:
    """Close the connection; return the received bytes, and the objects in them."""
    await client.send(Op.CLOSE, b"\x03\xe8")
    data = await client.rest_bytes()
    found = [
        json.loads(text) for opcode, text in frames(data, window_bits) if opcode is Opcode.TEXT
    ]
    return data, found


async def subscribers(scenario: Scenario, size: int, headers: dict[str, str]) -> list[RawClient]:
    """Connect clients that subscribe to one channel."""
    clients = [await RawClient.open(scenario, headers=headers) for _ in range(size)]
    for client in clients:
        await client.subscribe("BTC.trade")
    return clients


def publish(scenario: Scenario, count: int) -> None:
    """Publish records with compressible values."""
    chance = random.Random(7)  # noqa: S311 -- made-up data
    for number in range(count):
        scenario.publish("BTC", "trade", {"number": number, "tx": f"{chance.getrandbits(800):x}"})


@pytest.mark.parametrize(("headers", "window_bits"), [(OFFER, 15), (NARROW, 12)])
async def test_clients_with_and_without_compression_get_the_same_messages(
    odin_scenario: Scenario, headers: dict[str, str], window_bits: int
) -> None:
    """Their sequence numbers may differ; compressed connections receive fewer bytes."""
    early = await RawClient.open(odin_scenario, headers=headers)
    await early.subscribe("ETH.trade")
    odin_scenario.publish("ETH", "trade")
    await trio.sleep(1)
    assert (await early.next()).json["seq"] == 1
    await early.subscribe("BTC.trade")
    packed = await subscribers(odin_scenario, 20, headers)
    plain = await subscribers(odin_scenario, 3, {})
    publish(odin_scenario, 30)
    await trio.sleep(1)
    plain_bytes, expected = await end(plain[0])
    assert [message["seq"] for message in expected] == list(range(1, 31))
    assert b"\xc1" not in plain_bytes[:1]
    for client in packed:
        data, found = await end(client, window_bits)
        assert found == expected
        assert data[0] == 0xC1
        assert len(data) < 0.8 * len(plain_bytes)
    _, found = await end(early, window_bits)
    assert [message["seq"] for message in found[-30:]] == list(range(2, 32))
    assert [one["data"] for one in found[-30:]] == [one["data"] for one in expected]


async def test_message_for_one_client_is_not_compressed(odin_scenario: Scenario) -> None:
    """Compression takes longer than the write that it shortens, unless clients share it."""
    (alone,) = await subscribers(odin_scenario, 1, OFFER)
    publish(odin_scenario, 3)
    await trio.sleep(1)
    data, found = await end(alone)
    assert data[0] == 0x81
    assert len(found) == 3


async def test_message_of_4_kib_for_one_client_is_compressed(odin_scenario: Scenario) -> None:
    """From 4 KiB on compression pays for one client too."""
    (alone,) = await subscribers(odin_scenario, 1, OFFER)
    odin_scenario.publish("BTC", "trade", {"x": "y" * 5000})
    await trio.sleep(1)
    data, found = await end(alone)
    assert (data[0], len(found)) == (0xC1, 1)
    assert len(data) < 1000


async def test_cycle_compresses_at_most_64_kib_for_one_client(
    odin_scenario: Scenario,
) -> None:
    """The rest is sent uncompressed."""
    (alone,) = await subscribers(odin_scenario, 1, OFFER)
    for _ in range(40):
        odin_scenario.publish("BTC", "trade", {"x": "y" * 5000, "n": random.random()})  # noqa: S311
    await trio.sleep(1)
    data, found = await end(alone)
    assert len(found) == 40
    assert 20 * 5000 < len(data) < 39 * 5000


@pytest.mark.odin_settings(ws_compression="off")
async def test_compression_off_declines_the_offer(odin_scenario: Scenario) -> None:
    """The handshake succeeds without the extension; a compressed frame closes 1002."""
    client = await RawClient.dial(odin_scenario, request(headers=OFFER))
    assert b"Extensions" not in await client.head()
    await client.send(Op.TEXT, deflate(b'{"type":"heartbeat"}'), rsv=RSV1)
    assert (await client.close_frame())[0] == 1002


async def test_offer_is_answered_without_context_takeover(odin_scenario: Scenario) -> None:
    """Neither side keeps a context."""
    client = await RawClient.dial(odin_scenario, request(headers=OFFER))
    assert AGREED in await client.head()


async def test_handshake_without_offer_has_no_extension(odin_scenario: Scenario) -> None:
    """A compressed frame then closes 1002."""
    client = await RawClient.dial(odin_scenario, request())
    assert b"Extensions" not in await client.head()
    await client.send(Op.TEXT, deflate(b'{"type":"heartbeat"}'), rsv=RSV1)
    assert (await client.close_frame())[0] == 1002


async def test_compressed_commands_are_answered(odin_scenario: Scenario) -> None:
    """Whole, in fragments, and beside uncompressed commands."""
    client = await RawClient.open(odin_scenario, headers=OFFER)
    payload = deflate(b'{"type":"heartbeat","id":1}')
    await client.send(Op.TEXT, payload, rsv=RSV1)
    await client.send(Op.TEXT, payload[:4], rsv=RSV1, fin=False)
    await client.send(Op.CONTINUATION, payload[4:])
    await client.send(Op.TEXT, b'{"type":"heartbeat","id":1}')
    for _ in range(3):
        response = (await client.next()).json
        assert (response["type"], response["id"]) == ("pong", 1)


async def test_zip_bomb_closes_1009(odin_scenario: Scenario) -> None:
    """10 MB in a frame of 10 KB is too large."""
    client = await RawClient.open(odin_scenario, headers=OFFER)
    await client.send(Op.TEXT, deflate(b" " * 10_000_000), rsv=RSV1)
    assert await client.close_frame() == (1009, "message too large, or in too many frames")


async def test_invalid_deflate_data_closes_1002(odin_scenario: Scenario) -> None:
    """As any invalid frame does."""
    client = await RawClient.open(odin_scenario, headers=OFFER)
    await client.send(Op.TEXT, b"\xff\xff\xff\xff", rsv=RSV1)
    assert (await client.close_frame())[0] == 1002


async def test_resuming_clients_share_compressed_chunks(odin_scenario: Scenario) -> None:
    """A chunk is compressed from the second client on; all clients read the same messages."""
    publish(odin_scenario, 100)
    await trio.sleep(1)
    found, sizes = [], []
    starts = {"odin.trades": {str(number): -1 for number in range(12)}}
    clients = [await RawClient.open(odin_scenario, headers=OFFER) for _ in range(3)]
    for client in clients:
        await client.command("resume", channels=["BTC.trade"], positions=starts)
    await trio.sleep(1)
    for client in clients:
        data, objects = await end(client)
        sizes.append(len(data))
        found.append([(one["seq"], one["replay"], one["data"]) for one in objects[1:]])
    assert [len(one) for one in found] == [100, 100, 100]
    assert found[0] == found[1] == found[2]
    assert min(sizes) < 0.8 * max(sizes)


async def test_metrics_count_a_text_once_for_all_its_clients(odin_scenario: Scenario) -> None:
    """Texts, bytes before and after, CPU time, and the connections with compression."""
    await subscribers(odin_scenario, 20, OFFER)
    await subscribers(odin_scenario, 3, {})
    assert await metric(odin_scenario, "ws_deflate_connections_active") == 20
    assert await metric(odin_scenario, "ws_compressed_texts_total") == 0
    publish(odin_scenario, 5)
    await trio.sleep(1)
    assert await metric(odin_scenario, "ws_compressed_texts_total") == 5
    before = await metric(odin_scenario, "ws_compression_input_bytes_total")
    assert 0 < await metric(odin_scenario, "ws_compression_output_bytes_total") < before
    assert await metric(odin_scenario, "ws_compression_cpu_seconds_total") > 0
