"""The undocumented parts of aiokafka that odin-ws uses: an incompatible update fails here."""

from __future__ import annotations

import ast
import inspect
import struct
import tomllib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiokafka.conn
import psutil
import pytest
import trio
import trio.testing
from packaging.requirements import Requirement

import odin_ws
from odin_ws.kafka.aiokafka_internals import (
    CONNECT_ERRORS,
    SEND_ERRORS,
    AuthenticatedConnection,
    DefaultRecordBatch,
    calc_crc32c,
    cause_of,
    connect,
)
from odin_ws.kafka.asyncio_bridge import call_aiokafka, open_asyncio
from odin_ws.kafka.protocol import EncodedRequest
from odin_ws.testing.ports import LOOPBACK
from tests.kafka.batches import raw_batch, raw_record
from tests.kafka.loopback_broker import METADATA, loopback_broker

SOURCES = Path(odin_ws.__file__).parent
DOCUMENTED = {"aiokafka", "aiokafka.abc", "aiokafka.admin", "aiokafka.errors"}
FENCE = SOURCES / "kafka" / "aiokafka_internals.py"

ARGUMENTS = {"client_id": "odin-ws", "security_protocol": "PLAINTEXT"}


def aiokafka_imports(path: Path) -> Iterator[str]:
    """The modules of aiokafka that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                names = [name.name for name in node.names]
            case ast.ImportFrom(level=0, module=str()):
                names = [node.module or ""]
            case _:
                names = []
        yield from (name for name in names if name.split(".")[0] == "aiokafka")


def test_undocumented_modules_are_imported_in_one_module() -> None:
    """Other modules do not depend on what a release of aiokafka may change."""
    found = {
        str(path.relative_to(SOURCES)): undocumented
        for path in SOURCES.rglob("*.py")
        if path != FENCE and (undocumented := set(aiokafka_imports(path)) - DOCUMENTED)
    }
    assert found == {}
    assert set(aiokafka_imports(FENCE)) - DOCUMENTED == {
        "aiokafka.conn",
        "aiokafka.protocol.api",
        "aiokafka.record.default_records",
        "aiokafka.record.util",
    }


def test_installed_release_is_the_tested_one() -> None:
    """The dependency allows no other release."""
    project = tomllib.loads((SOURCES.parents[1] / "pyproject.toml").read_text())["project"]
    (bound,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "aiokafka")
    assert version("aiokafka") in bound.specifier
    assert "0.14.0" in bound.specifier
    assert "0.15.0" not in bound.specifier


def test_connection_accepts_our_arguments() -> None:
    """Those of KafkaSecurity.connection, and the request timeout."""
    connection = aiokafka.conn.AIOKafkaConnection
    parameters = inspect.signature(connection).parameters
    assert list(parameters)[:2] == ["host", "port"]
    assert parameters.keys() >= {
        "client_id",
        "request_timeout_ms",
        "security_protocol",
        "ssl_context",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
        "sasl_oauth_token_provider",
    }
    assert inspect.iscoroutinefunction(connection.connect)


def test_version_lookup_has_the_overridden_shape() -> None:
    """`connect` looks up the versions once, by a request of version 0 that `send` prepares."""
    lookup = aiokafka.conn.AIOKafkaConnection._do_version_lookup  # noqa: SLF001
    assert inspect.iscoroutinefunction(lookup)
    assert not set(inspect.signature(lookup).parameters) - {"self"}
    connect_source = inspect.getsource(aiokafka.conn.AIOKafkaConnection.connect)
    assert connect_source.count("self._do_version_lookup()") == 1
    request = aiokafka.conn.ApiVersionRequest().prepare({})
    assert (request.API_KEY, request.API_VERSION) == (18, 0)


class Recorded:
    """Records which attributes of a request or a response aiokafka uses."""

    def __init__(self, recorded: Any) -> None:
        self.used: set[str] = set()
        self._recorded = recorded

    def __getattr__(self, name: str) -> Any:
        self.used.add(name)
        return getattr(self._recorded, name)


@contextmanager
def record_waiting(connection: AuthenticatedConnection) -> Iterator[dict[str, Recorded]]:
    """Yield what records the next request and its response."""
    recorded: dict[str, Recorded] = {}

    class Requests(deque[Any]):
        def append(self, waiting: Any) -> None:
            correlation_id, request, response = waiting
            recorded.update(request=Recorded(request), response=Recorded(response))
            super().append((correlation_id, *recorded.values()))

    connection._connection._requests = Requests()  # noqa: SLF001 -- what is tested
    yield recorded


@pytest.mark.parametrize("flexible", [True, False])
async def test_connection_sends_an_encoded_request_and_returns_the_body(
    flexible: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """It uses only these attributes of a request and a response, and gives us the body."""
    frames: list[bytes] = []
    header = b"\0" if flexible else b""

    async def response(request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        frames.append(request)
        # Tagged fields in the header: one of three bytes.
        return (b"\x01\x05\x03abc" if flexible else b"") + b"answer"

    async with loopback_broker() as broker, open_asyncio():
        broker.responses[METADATA] = response
        connection = await call_aiokafka(connect, LOOPBACK, broker.port, 5.0, ARGUMENTS)
        assert isinstance(connection, AuthenticatedConnection)
        assert connection.versions == broker.versions
        assert connection.is_open
        request = EncodedRequest(METADATA, 12 if flexible else 4, flexible, b"request")
        with record_waiting(connection) as recorded:
            assert await connection.send(request) == b"answer"
        await call_aiokafka(connection.close)
        assert not connection.is_open
        await broker.closed.wait()
    assert recorded["request"].used == {"RESPONSE_TYPE", "parse_response_header"}
    assert recorded["response"].used == {"done", "set_result"}
    # Behind key, version and correlation id: the client's id, and the tagged fields of the header.
    name = b"odin-ws"
    assert frames == [struct.pack(">h", len(name)) + name + header + b"request"]


async def test_aborted_connection_closes_without_being_awaited() -> None:
    """A request in flight ends with one of SEND_ERRORS."""
    failures: list[BaseException] = []
    async with loopback_broker() as broker, open_asyncio(), trio.open_nursery() as nursery:
        connection = await call_aiokafka(connect, LOOPBACK, broker.port, 5.0, ARGUMENTS)
        broker.hangs = True

        async def send() -> None:
            try:
                await connection.send(EncodedRequest(METADATA, 4, False, b""))  # noqa: FBT003
            except SEND_ERRORS as error:
                failures.append(error)

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        connection.abort()
        await broker.closed.wait()
        assert not connection.is_open
    assert len(failures) == 1


async def test_aborted_connection_does_not_wait_for_unsent_bytes() -> None:
    """Its socket is closed although the broker has stopped reading: the loop may end next."""
    sockets = psutil.Process().net_connections

    async with loopback_broker() as broker, open_asyncio(), trio.open_nursery() as nursery:
        connection = await call_aiokafka(connect, LOOPBACK, broker.port, 5.0, ARGUMENTS)

        async def hang(_request: bytes) -> bytes:
            await trio.sleep_forever()
            return b""

        broker.responses[METADATA] = hang

        async def send(body: bytes) -> None:
            with suppress(*SEND_ERRORS):
                await connection.send(EncodedRequest(METADATA, 4, False, body))  # noqa: FBT003

        nursery.start_soon(send, b"")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send, bytes(32 << 20))
        await trio.testing.wait_all_tasks_blocked()
        assert any(broker.port in socket.raddr for socket in sockets("tcp"))
        connection.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert not any(broker.port in socket.raddr for socket in sockets("tcp"))


async def test_cause_of_lost_connection_is_found() -> None:
    """The socket error is behind aiokafka's own error."""
    async with loopback_broker() as broker, open_asyncio():
        connection = await call_aiokafka(connect, LOOPBACK, broker.port, 5.0, ARGUMENTS)

        async def close(_request: bytes) -> bytes:
            broker.disconnect()
            await trio.sleep_forever()
            return b""

        broker.responses[METADATA] = close
        with pytest.raises(SEND_ERRORS) as lost:
            await connection.send(EncodedRequest(METADATA, 4, False, b""))  # noqa: FBT003
        assert isinstance(cause_of(lost.value), EOFError)


async def test_connect_raises_connect_errors() -> None:
    """For a closed port, and for a broker that does not respond in time."""
    async with open_asyncio():
        with pytest.raises(CONNECT_ERRORS):
            await call_aiokafka(connect, LOOPBACK, 1, 5.0, ARGUMENTS)
        async with loopback_broker(hangs=True) as broker:
            with pytest.raises(TimeoutError):
                await call_aiokafka(connect, LOOPBACK, broker.port, 0.1, ARGUMENTS)


def test_record_parser() -> None:
    """A batch validates itself and yields records, as odin_ws.kafka.batch_records expects."""
    records = raw_record(0, key=b"k", value=b"v", timestamp=5) + raw_record(1, key=None, value=None)
    data = raw_batch(7, records, 2)
    batch = DefaultRecordBatch(memoryview(data))
    assert batch.validate_crc()
    found = [(record.offset, record.timestamp, record.key, record.value) for record in batch]
    assert found == [(7, 1005, b"k", b"v"), (8, 1000, None, None)]
    assert not DefaultRecordBatch(memoryview(data[:-1] + b"!")).validate_crc()


def test_checksum() -> None:
    """CRC-32C of the check value, also of a memoryview."""
    assert calc_crc32c(b"123456789") == 0xE3069283
    assert calc_crc32c(memoryview(b"123456789")) == 0xE3069283
