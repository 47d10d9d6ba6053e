"""Compression: once for many subscribers, within a budget for few, in time slices."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import random
from itertools import pairwise

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from odin_ws.hub import packing
from odin_ws.hub.packing import Compressors, CycleEncoder, ReplayEncoder
from odin_ws.hub.stats import Compressed
from odin_ws.hub.subscriber import Due
from odin_ws.protocol.deflate import STORED_BYTES, Compressor
from odin_ws.protocol.wire_format import Frames, WireFormat, wire_format
from odin_ws.records import Record
from odin_ws.steps import finish
from tests.factories import message, record
from tests.hub.hub_driver import Client, dispatching, make_hub
from tests.hub.joins import join
from tests.wire_decoder import frames

DEFLATE = wire_format(window_bits=15)
BATCHES = wire_format(frames=Frames.BATCH, window_bits=15)


class Counting(Compressor):
    """Counts the texts that it compresses, and takes time for each."""

    texts = 0
    clock: MockClock | None = None

    def compress(self, text: bytes) -> bytes:
        """See Compressor."""
        type(self).texts += 1
        if self.clock is not None:
            self.clock.jump(0.001)
        return super().compress(text)


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    """Count what is compressed in a test."""
    fresh = type("Fresh", (Counting,), {})
    monkeypatch.setattr(packing, "Compressor", fresh)
    return fresh


def value(number: int) -> bytes:
    """A value with something to be compressed."""
    return b'{"type":"TRADE_EXECUTED","n":%d,"x":"%b"}' % (number, b"abc" * 60)


def records(count: int) -> list[Record]:
    """Records of one channel."""
    return [record(value=value(offset), offset=offset) for offset in range(count)]


async def test_each_message_is_compressed_once(
    autojump_clock: MockClock, counting: type[Counting]
) -> None:
    """30 subscribers with 30 sequence numbers share 5 compressed tails."""
    hub = make_hub()
    clients = [Client(DEFLATE) for _ in range(30)]
    for number, client in enumerate(clients):
        join(hub, "BTC.trade", client=client)
        client.subscriber.seq = number * 7
    async with dispatching(hub) as feeder:
        await feeder.publish(*records(5))
    assert counting.texts == 5
    for number, client in enumerate(clients):
        assert [message["seq"] for message in client.messages] == list(
            range(number * 7 + 1, number * 7 + 6)
        )
        assert client.writes[0][0] == 0xC1


async def test_batch_is_compressed_once(
    autojump_clock: MockClock, counting: type[Counting]
) -> None:
    """All subscribers of the same patterns share it."""
    hub = make_hub()
    clients = [Client(BATCHES) for _ in range(30)]
    for number, client in enumerate(clients):
        join(hub, "BTC.trade", client=client)
        client.subscriber.seq = number
    async with dispatching(hub) as feeder:
        await feeder.publish(*records(50))
    assert counting.texts == 1
    ((_, first),) = frames(clients[3].writes[0])
    assert first.startswith(
        '{"type":"batch","seq":4,"messages":[{"channel":"BTC.trade","pos":"0-0"'
    )


async def test_unshared_lists_are_not_compressed(
    autojump_clock: MockClock, counting: type[Counting]
) -> None:
    """40 subscribers with 40 combinations: compressing each would block the loop."""
    hub = make_hub()
    clients = [Client(BATCHES) for _ in range(40)]
    for number, client in enumerate(clients):
        join(hub, "BTC.trade", f"T{number}.trade", client=client)
    own = [
        record(f"T{number}".encode(), value=value(number), offset=100 + number)
        for number in range(40)
    ]
    async with dispatching(hub) as feeder:
        await feeder.publish(*records(3), *own)
    assert counting.texts == 0
    assert all(client.writes[0][0] == 0x81 for client in clients)


async def test_batches_of_few_subscribers_share_a_budget(
    autojump_clock: MockClock, counting: type[Counting]
) -> None:
    """A cycle compresses 64 KiB of them."""
    hub = make_hub()
    clients = [Client(BATCHES) for _ in range(20)]
    for number, client in enumerate(clients):
        join(hub, f"T{number}.trade", client=client)
    big = [
        record(f"T{number}".encode(), value=b'{"x":"%b"}' % (b"y" * 8000), offset=number)
        for number in range(20)
    ]
    async with dispatching(hub) as feeder:
        await feeder.publish(*big)
        assert counting.texts == 8
        await feeder.publish(*[attrs.evolve(record, offset=record.offset + 50) for record in big])
    assert counting.texts == 16


async def test_compression_yields_after_each_slice(
    autojump_clock: MockClock, counting: type[Counting]
) -> None:
    """Other tasks run while 100 messages are compressed, 1 ms each."""
    counting.clock = autojump_clock
    hub = make_hub()
    clients = [Client(DEFLATE) for _ in range(20)]
    for client in clients:
        join(hub, "BTC.trade", client=client)
    ran: list[float] = []

    async def watch() -> None:
        while True:
            ran.append(trio.current_time())
            await trio.lowlevel.checkpoint()

    async with dispatching(hub) as feeder, trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        feeder.put(*records(100))
        while len(clients[-1].messages) < 100:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert counting.texts == 100
    gaps = [after - before for before, after in pairwise(ran)]
    # A slice of 5 ms, the message that ends it, and all that twice: trio shuffles each pass.
    assert max(gaps) < 0.0125


@pytest.mark.parametrize("act", ["flush", "unsubscribe", "batch"])
async def test_command_during_compression_keeps_the_order(
    autojump_clock: MockClock, counting: type[Counting], act: str
) -> None:
    """Due messages precede the answer, uncompressed; none is duplicated."""
    counting.clock = autojump_clock
    hub = make_hub()
    clients = [Client(DEFLATE) for _ in range(20)]
    for client in clients:
        join(hub, "BTC.trade", client=client)
    first = clients[0]
    async with dispatching(hub) as feeder:
        feeder.put(*records(100))
        while not counting.texts:
            await trio.lowlevel.checkpoint()
        assert not first.writes
        match act:
            case "flush":
                hub.flush(first.subscriber)
            case "unsubscribe":
                hub.unsubscribe(first.subscriber, ["BTC.trade"])
            case _:
                hub.write_as(first.subscriber, Frames.BATCH)
        assert len(first.messages) == 100
        assert counting.texts < 100
        await wait_all_tasks_blocked()
    for client in clients:
        assert client.positions == [f"0-{offset}" for offset in range(100)]


@pytest.mark.parametrize("form", [DEFLATE, BATCHES, wire_format()])
def test_list_is_encoded_once_a_cycle(form: WireFormat) -> None:
    """Subscribers with the same list and format get the same object."""
    encoder = CycleEncoder(Compressors(Compressed()))
    pending = Due([message("BTC", offset=0)])
    pending.receivers = 20
    assert encoder.find(pending, form) is None
    encoded = finish(encoder.steps(pending, form))
    assert encoder.find(pending, form) is encoded
    encoder.end()
    assert encoder.find(pending, form) is None


def test_replayed_chunk_is_compressed_for_the_second_client(counting: type[Counting]) -> None:
    """The first client does not wait; the later ones get fewer bytes."""
    encoder = ReplayEncoder(Compressors(Compressed()))
    chunk = [message("BTC", offset=offset, value=value(offset)) for offset in range(10)]
    first, second, third = (encoder.encode(list(chunk), DEFLATE) for _ in range(3))
    assert counting.texts == 10
    assert second is third
    assert len(second.frames(1)) < len(first.frames(1))
    assert frames(second.frames(1)) == frames(first.frames(1))
    encoder.forget()
    assert len(encoder.encode(chunk, DEFLATE).frames(1)) == len(first.frames(1))


def test_each_compression_is_counted_once() -> None:
    """With the sizes before and after; a text that does not get shorter counts as it is."""
    stats = Compressed()
    compressors = Compressors(stats)
    text = b'{"price":"0.1"}' * 20
    packed = compressors.compress(text, 15)
    assert packed is not None
    assert (stats.texts, stats.input_bytes) == (1, len(text))
    assert stats.output_bytes == len(packed) + STORED_BYTES
    random_text = random.Random(7).randbytes(100)  # noqa: S311 -- made-up data
    assert compressors.compress(random_text, 15) is None
    assert (stats.texts, stats.input_bytes) == (2, len(text) + 100)
    assert stats.output_bytes == len(packed) + STORED_BYTES + 100
    assert stats.seconds > 0
