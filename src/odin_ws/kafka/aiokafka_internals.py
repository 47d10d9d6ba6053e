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
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.api import (
    RequestHeader_v1,
    RequestHeader_v2,
    ResponseHeader_v0,
    ResponseHeader_v1,
)
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

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

_CLOSE_SECONDS: Final = 1.0


class _SentRequest:
    """An encoded request with the methods that aiokafka's connection calls."""

    def __init__(self, request: EncodedRequest) -> None:
        self.API_KEY = request.api_key
        self.API_VERSION = request.api_version
        self.RESPONSE_TYPE = _ReceivedBody
        self._flexible = request.flexible
        self._body = request.body

    def prepare(self, _versions: Mapping[int, tuple[int, int]]) -> _SentRequest:
        """See aiokafka.protocol.api.Request; the version is already chosen."""
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> Any:
        """See aiokafka.protocol.api.RequestStruct."""
        header = RequestHeader_v2 if self._flexible else RequestHeader_v1
        return header(self, correlation_id=correlation_id, client_id=client_id)

    def parse_response_header(self, buffer: BytesIO) -> Any:
        """See aiokafka.protocol.api.RequestStruct."""
        header = ResponseHeader_v1 if self._flexible else ResponseHeader_v0
        return header.decode(buffer)

    def encode(self) -> bytes:
        """See aiokafka.protocol.struct.Struct."""
        return self._body


class _ReceivedBody:
    @staticmethod
    def decode(buffer: BytesIO) -> bytes:
        """Return the bytes after the header."""
        return buffer.read()


class AuthenticatedConnection:
    """One authenticated connection to a broker. All methods run in asyncio."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def versions(self) -> Versions:
        """The API versions that the broker supports."""
        found: Versions = self._connection._versions  # noqa: SLF001
        return found

    @property
    def is_open(self) -> bool:
        """Whether the connection is open on both sides."""
        return bool(self._connection.connected())

    async def send(self, request: EncodedRequest) -> bytes:
        """Send a request; returns the body of its response.

        Raises one of SEND_ERRORS, or TimeoutError after the connection's request timeout.
        """
        body: bytes = await self._connection.send(_SentRequest(request))
        return body

    def abort(self) -> None:
        """Start to close the connection without waiting."""
        self._connection.close()

    async def close(self) -> None:
        """Close the connection; waits at most a second for the TLS close of the broker."""
        await asyncio.wait([self._connection.close()], timeout=_CLOSE_SECONDS)


async def connect(
    host: str, port: int, request_seconds: float, arguments: Mapping[str, Any]
) -> AuthenticatedConnection:
    """Connect to a broker, negotiate API versions and authenticate.

    Args:
        host: name or IP address.
        port: TCP port.
        request_seconds: timeout of each request.
        arguments: `KafkaSecurity.connection()`: security protocol, TLS context, credentials.

    Raises one of CONNECT_ERRORS or MALFORMED_RESPONSE_ERRORS, or TimeoutError.
    """
    connection = await aiokafka.conn.create_conn(
        host, port, request_timeout_ms=round(request_seconds * 1000), **arguments
    )
    return AuthenticatedConnection(connection)


def cause_of(error: BaseException) -> BaseException:
    """Return the TLS or socket error that caused the error of a closed connection."""
    cause: BaseException | None = error.__cause__
    return cause if isinstance(error, KafkaConnectionError) and cause is not None else error
