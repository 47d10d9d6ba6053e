"""A malformed SASL response makes a broker unavailable and does not end the service."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import pytest
import trio

from odin_ws.catalogue import default_catalogue
from odin_ws.kafka.asyncio_bridge import open_asyncio
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import AuthenticationFailed, KafkaUnavailable
from odin_ws.kafka.options import KafkaOptions
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source import KafkaSource
from odin_ws.kafka.source_status import SourceState
from odin_ws.records import Item
from odin_ws.settings import Secret
from odin_ws.testing.ports import LOOPBACK

_HANDSHAKE: Final = 17
_API_VERSIONS: Final = 18
_AUTHENTICATE: Final = 36

MECHANISM: Final = b"SCRAM-SHA-256"

# What follows our own nonce, or stands in place of an answer to it.
Says = Callable[[bytes], bytes | None]


@attrs.define(eq=False)
class Broker:
    """Answers `first` to who wants in by SCRAM. `asked`: how often somebody did."""

    first: Says
    address: str = ""
    asked: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer every request of a connection."""
        data = b""
        while more := await stream.receive_some():
            data += more
            while len(data) >= 4 and len(data) >= (end := 4 + struct.unpack_from("!i", data)[0]):
                key, _version, correlation = struct.unpack_from("!hhi", data, 4)
                response = struct.pack("!i", correlation) + self.response(key, data[12:end])
                data = data[end:]
                await stream.send_all(struct.pack("!i", len(response)) + response)

    def response(self, key: int, request: bytes) -> bytes:
        """What a request is answered."""
        match key:
            case 18:
                apis = ((_HANDSHAKE, 0, 1), (_API_VERSIONS, 0, 0), (_AUTHENTICATE, 0, 0))
                known = b"".join(struct.pack("!hhh", *api) for api in apis)
                return struct.pack("!hi", 0, len(apis)) + known
            case 17:
                return struct.pack("!hih", 0, 1, len(MECHANISM)) + MECHANISM
            case _:
                self.asked += 1
                text = self.first(request.rpartition(b"r=")[2])
                size = -1 if text is None else len(text)
                return struct.pack("!hhi", 0, -1, size) + (text or b"")


@asynccontextmanager
async def broker_that_says(first: Says) -> AsyncIterator[Broker]:
    """A broker on loopback."""
    broker = Broker(first)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, broker.serve, 0, host=LOOPBACK))
        broker.address = f"{LOOPBACK}:{listeners[0].socket.getsockname()[1]}"
        yield broker
        nursery.cancel_scope.cancel()


def access_to(broker: Broker) -> KafkaSecurity:
    """By SCRAM."""
    return KafkaSecurity(
        (broker.address,), "SASL_PLAINTEXT", MECHANISM.decode(), "odin", Secret("horse")
    )


NONSENSE: Final[dict[str, tuple[Says, str]]] = {
    "no-pairs": (lambda _: b"nonsense", "ValueError"),
    "empty": (lambda _: b"", "ValueError"),
    "null": (lambda _: None, "AttributeError"),
    "latin": (lambda _: b"r=\xff", "UnicodeDecodeError"),
    "other-nonce": (lambda _: b"r=other,s=c2FsdA==,i=4096", "did not start with client nonce"),
    "no-nonce": (lambda _: b"e=other-error", "KeyError: 'r'"),
    "no-salt": (lambda nonce: b"r=" + nonce + b"x,i=4096", "KeyError: 's'"),
    "bad-salt": (lambda nonce: b"r=" + nonce + b"x,s=a,i=4096", "Error: Invalid base64"),
    "no-number": (lambda nonce: b"r=" + nonce + b"x,s=c2FsdA==,i=many", "ValueError: invalid"),
    "no-iterations": (lambda nonce: b"r=" + nonce + b"x,s=c2FsdA==,i=0", "ValueError: iteration"),
    "too-many": (lambda nonce: b"r=" + nonce + b"x,s=c2FsdA==,i=9" + b"9" * 30, "OverflowError"),
    "no-signature": (lambda nonce: b"r=" + nonce + b"x,s=c2FsdA==,i=1", "KeyError: 'v'"),
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_malformed_response_is_a_rejection_with_reason(what: str) -> None:
    """One short line with the broker's name."""
    first, reason = NONSENSE[what]
    async with broker_that_says(first) as broker, open_asyncio():
        rejection = await access_to(broker).rejection_reason(10)
    assert isinstance(rejection, AuthenticationFailed)
    beginning = f"{broker.address}: malformed response: "
    assert str(rejection).startswith(beginning)
    assert reason in str(rejection)
    assert len(str(rejection)) <= len(beginning) + 100


@pytest.mark.parametrize("what", NONSENSE)
async def test_client_raises_kafka_unavailable_with_the_reason(what: str) -> None:
    """With the same line."""
    first, reason = NONSENSE[what]
    async with broker_that_says(first) as broker:
        client = KafkaClient(access_to(broker), 10)
        async with client.running():
            with pytest.raises(KafkaUnavailable) as failed:
                await client.metadata([])
    beginning = f"{broker.address}: malformed response: "
    assert str(failed.value).startswith(beginning)
    assert reason in str(failed.value)
    assert len(str(failed.value)) <= len(beginning) + 100


async def test_rejection_reason_tries_the_next_broker_if_one_hangs() -> None:
    """Each has its share of the time."""

    async def hang(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, hang, 0, host=LOOPBACK))
        hanging = f"{LOOPBACK}:{listeners[0].socket.getsockname()[1]}"
        async with broker_that_says(lambda _: b"nonsense") as broker, open_asyncio():
            security = attrs.evolve(access_to(broker), brokers=(hanging, broker.address))
            rejection = await security.rejection_reason(2)
        assert str(rejection).startswith(f"{broker.address}: malformed response")
        nursery.cancel_scope.cancel()


async def test_source_retries_after_malformed_response() -> None:
    """The status has the reason."""
    async with broker_that_says(lambda _: b"e=other-error") as broker:
        security = access_to(broker)
        options = KafkaOptions(security, None, 0.5, 0.05, 0, 5, 0, 0)
        source = KafkaSource(default_catalogue(), options)
        send, _receive = trio.open_memory_channel[Item](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.run, send)
            with trio.fail_after(30):
                # Each try is a start and a look at why it failed.
                while broker.asked < 5:  # noqa: ASYNC110 -- the fake tells nobody
                    await trio.sleep(0.01)
            assert "malformed response: KeyError: 'r'" in source.status.reason
            assert source.status.state.value is SourceState.STARTING
            nursery.cancel_scope.cancel()
