"""The only module that uses undocumented parts of aiokafka: its connection and record parser.

The dependency is bounded (`aiokafka>=0.14,<0.15`), and `tests/kafka/test_aiokafka_internals.py`
checks each internal that is used here, so an incompatible update fails a test.

aiokafka does TLS, SASL with all its mechanisms, and the matching of responses to requests.
`odin_ws.kafka.protocol` encodes and decodes requests and responses; this module sends and receives
them as bytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import aiokafka.conn
import trio
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.api import (
    RequestHeader_v1,
    RequestHeader_v2,
    ResponseHeader_v0,
    ResponseHeader_v1,
)
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

from odin_ws.kafka.errors import UnexpectedResponse, error_text
from odin_ws.kafka.protocol import EncodedRequest, Versions

__all__ = [
    "CONNECT_ERRORS",
    "MALFORMED_RESPONSE_ERRORS",
    "SEND_ERRORS",
    "AuthenticatedConnection",
    "DefaultRecordBatch",
    "calc_crc32c",
    "cause_of",
    "connect",
]

CONNECT_ERRORS: Final = (KafkaError, OSError, EOFError)
"""Errors that `connect` raises if the address does not resolve or the broker does not respond,
closes the connection or rejects the credentials. See `cause_of`."""

MALFORMED_RESPONSE_ERRORS: Final = (
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    AssertionError,
    struct.error,
)
"""Errors that `connect` raises for a malformed response to the version or SASL requests, which
aiokafka decodes and asserts itself."""

SEND_ERRORS: Final = (KafkaError, OSError, EOFError)
"""Errors that `AuthenticatedConnection.send` raises if the connection is lost."""

_pack_size: Final = struct.Struct(">i").pack

_CLOSE_SECONDS: Final = 1.0

_API_VERSIONS: Final = 18
_UNSUPPORTED_VERSION: Final = 35


class _Connection(aiokafka.conn.AIOKafkaConnection):  # type: ignore[misc]  # aiokafka is untyped
    """A connection that closes at once, and checks the error code of the API versions' response."""

    def close(self, reason: Any = None, exc: BaseException | None = None) -> asyncio.Future[None]:
        """See AIOKafkaConnection, whose close waits for unsent bytes and the broker's TLS close.

        The loop may end before, and leave the socket to the garbage collector.
        """
        writer = self._writer
        closed: asyncio.Future[None] = super().close(reason, exc)
        if writer is not None:
            writer.transport.abort()
        return closed

    async def _do_version_lookup(self) -> None:
        """See AIOKafkaConnection; also raises UnexpectedResponse."""
        response = await self.send(aiokafka.conn.ApiVersionRequest())
        versions = {key: (lowest, highest) for key, lowest, highest in response.api_versions}
        if response.error_code:
            raise UnexpectedResponse(_version_error(response.error_code, versions))
        if any(lowest > highest for lowest, highest in versions.values()):
            raise ValueError("an API's lowest version is above its highest")
        self._versions = versions


def _version_error(code: int, versions: Versions) -> str:
    """Return the text for an error in the response with the API versions.

    A broker that supports other versions of this request only has them in its response (KIP-511).
    """
    text = f"the request for its API versions failed: {error_text(code)}"
    known = versions.get(_API_VERSIONS)
    if code != _UNSUPPORTED_VERSION or known is None:
        return text
    return f"{text}; it supports versions {known[0]} to {known[1]}, odin-ws sends 0"


class _ReceivedBody:
    @staticmethod
    def decode(buffer: BytesIO) -> bytes:
        """Return the bytes after the header."""
        return buffer.read()


class _SentRequest:
    """A sent request with the parts that aiokafka's connection uses for the response."""

    RESPONSE_TYPE: Final = _ReceivedBody

    def __init__(self, request: EncodedRequest) -> None:
        self.API_KEY = request.api_key
        self.API_VERSION = request.api_version
        self._flexible = request.flexible

    def header(self, correlation_id: int, client_id: str) -> bytes:
        """Return the encoded request header."""
        make = RequestHeader_v2 if self._flexible else RequestHeader_v1
        header: bytes = make(self, correlation_id=correlation_id, client_id=client_id).encode()
        return header

    def parse_response_header(self, buffer: BytesIO) -> Any:
        """See aiokafka.protocol.api.RequestStruct."""
        header = ResponseHeader_v1 if self._flexible else ResponseHeader_v0
        return header.decode(buffer)


class _Response:
    """The response of one request; aiokafka's connection uses it as an asyncio future.

    It wakes the waiting Trio task itself. With a future that needs an asyncio task, a timer and
    four more passes of the event loop, which cost more than the rest of a fetch.
    """

    def __init__(self) -> None:
        self._finished = trio.Event()
        self._body = b""
        self._error: BaseException | None = None

    def done(self) -> bool:
        """See asyncio.Future."""
        return self._finished.is_set()

    def set_result(self, body: bytes) -> None:
        """See asyncio.Future."""
        self._body = body
        self._finished.set()

    def set_exception(self, error: BaseException) -> None:
        """See asyncio.Future."""
        self._error = error
        self._finished.set()

    async def wait(self) -> bytes:
        """Return the body. Raises one of SEND_ERRORS."""
        await self._finished.wait()
        if self._error is not None:
            raise self._error
        return self._body


class AuthenticatedConnection:
    """One authenticated connection to a broker."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def versions(self) -> Versions:
        """The API versions that the broker supports."""
        found: Versions = self._connection._versions  # noqa: SLF001
        return found

    @property
    def is_open(self) -> bool:
        """True if the connection is open on both sides."""
        return bool(self._connection.connected())

    async def send(self, request: EncodedRequest) -> bytes:
        """Send a request; returns the body of its response. Runs in Trio.

        If it is cancelled, the connection must be aborted: the response may still come. Raises one
        of SEND_ERRORS.
        """
        connection = self._connection
        if connection._writer is None:  # noqa: SLF001
            raise KafkaConnectionError("the connection is closed")
        sent, response = _SentRequest(request), _Response()
        correlation_id = connection._next_correlation_id()  # noqa: SLF001
        header = sent.header(correlation_id, connection._client_id)  # noqa: SLF001
        size = _pack_size(len(header) + len(request.body))
        connection._requests.append((correlation_id, sent, response))  # noqa: SLF001
        # asyncio's transports write at once, or keep the rest and report errors to the reader.
        connection._writer.write(size + header + request.body)  # noqa: SLF001
        return await response.wait()

    def abort(self) -> None:
        """Start to close the connection without waiting; requests in flight fail."""
        self._connection.close()

    async def close(self) -> None:
        """Close the connection; waits at most a second for that. Runs in asyncio."""
        await asyncio.wait([self._connection.close()], timeout=_CLOSE_SECONDS)


async def connect(
    host: str,
    port: int,
    request_seconds: float,
    arguments: Mapping[str, Any],
    idle_seconds: float | None = None,
) -> AuthenticatedConnection:
    """Connect to a broker, negotiate API versions and authenticate.

    Args:
        host: name or IP address.
        port: TCP port.
        request_seconds: timeout of each request.
        arguments: `KafkaSecurity.connection()`: security protocol, TLS context, credentials.
        idle_seconds: the connection closes itself after this time without a request.

    Raises one of CONNECT_ERRORS or MALFORMED_RESPONSE_ERRORS, or TimeoutError.
    """
    connection = _Connection(
        host,
        port,
        request_timeout_ms=round(request_seconds * 1000),
        max_idle_ms=None if idle_seconds is None else round(idle_seconds * 1000),
        **arguments,
    )
    await connection.connect()
    return AuthenticatedConnection(connection)


def cause_of(error: BaseException) -> BaseException:
    """Return the TLS or socket error that caused the error of a closed connection."""
    cause: BaseException | None = error.__cause__
    return cause if isinstance(error, KafkaConnectionError) and cause is not None else error
