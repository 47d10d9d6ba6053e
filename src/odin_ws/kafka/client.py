"""Connections to the brokers of a cluster, and requests over them.

Maps each failure of a broker or of the network to KafkaUnavailable with a text for operators.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

import structlog
import trio

from odin_ws.kafka.aiokafka_internals import (
    CONNECT_ERRORS,
    SEND_ERRORS,
    AuthenticatedConnection,
    cause_of,
)
from odin_ws.kafka.asyncio_bridge import open_asyncio
from odin_ws.kafka.errors import AuthenticationFailed, KafkaUnavailable, RequestUnsupported
from odin_ws.kafka.protocol import (
    BrokerAddress,
    KafkaRequest,
    MalformedResponse,
    Metadata,
    MetadataRequest,
    UnsupportedVersion,
)
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio

__all__ = ["Brokers", "KafkaClient", "Purpose", "why_unreachable"]

log = structlog.get_logger("odin_ws.kafka")

T = TypeVar("T")

# A broker that hangs must not use up the time of the others.
_MIN_TURN_SECONDS: Final = 1.0

_STOPPED: Final = "the Kafka client has stopped"

# Closing waits for the TLS close of the broker.
_CLOSE_SECONDS: Final = 1.0

# aiokafka needs one timeout for all requests of a connection. Callers have shorter timeouts, which
# include the max wait of a fetch.
_LONGEST_REQUEST_SECONDS: Final = 600.0

_LAST_PORT: Final = 65_535

# Firewalls and load balancers forget idle connections, some after four minutes, without a word to
# either side: the next request would wait for its timeout.
_IDLE_SECONDS: Final = 180.0

# Length limit for texts from a broker.
_MAX_SHOWN: Final = 100


class Purpose(Enum):
    """The purpose of a connection.

    A broker responds to the requests of one connection in order: a metadata request would wait
    behind a fetch that waits for records.
    """

    FETCH = "fetch"
    QUERY = "query"


class Brokers(Protocol):
    """The part of KafkaClient that fetches and offset queries use.

    A protocol because tests have brokers in memory (tests/kafka/fake_cluster.py).
    """

    async def send(
        self,
        node: int,
        request: KafkaRequest[T],
        purpose: Purpose = Purpose.QUERY,
        wait_seconds: float = 0,
    ) -> T:
        """Send a request to one broker; returns its response. Raises KafkaUnavailable."""
        ...


class KafkaClient:
    """Sends requests to brokers; opens each connection when it is first needed.

    `seconds`: timeout for connecting and for each response, besides the max wait of a fetch. All
    methods are for Trio and may be called from any task.
    """

    def __init__(self, security: KafkaSecurity, seconds: float) -> None:
        self._security = security
        self._seconds = seconds
        self._brokers: dict[int, BrokerAddress] = {}
        self._connections: dict[tuple[BrokerAddress, Purpose], AuthenticatedConnection] = {}
        self._locks: dict[tuple[BrokerAddress, Purpose], trio.Lock] = {}
        # Addresses with a successful connection since the start.
        self._reached: set[BrokerAddress] = set()
        self._loop: Any = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run an asyncio loop for the connections; close them at the end of the block."""
        async with open_asyncio() as loop:
            self._loop = loop
            try:
                yield
            finally:
                self._loop = None
                for connection in self._connections.values():
                    connection.abort()
                self._connections.clear()

    @property
    def brokers(self) -> Mapping[int, BrokerAddress]:
        """The cluster's brokers by node id, from the last metadata response."""
        return self._brokers

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of KAFKA_BROKERS."""
        return self._security.brokers

    def name(self, node: int) -> str:
        """Return the name of a broker for texts: its id and advertised address."""
        address = self._brokers.get(node)
        return f"broker {node}" if address is None else f"broker {node} at {address}"

    async def metadata(self, topics: Sequence[str]) -> Metadata:
        """Request the metadata of topics without creating them; stores the brokers.

        Tries the brokers of the last response first, then those of KAFKA_BROKERS. So the client
        follows a cluster that has moved to other addresses of that list. Raises
        KafkaUnavailable.
        """
        failures: dict[str, None] = {}
        candidates = self._candidates()
        seconds = self._seconds
        if len(candidates) > 1:
            seconds = min(seconds, max(seconds / 2, _MIN_TURN_SECONDS))
        for address in candidates:
            try:
                with trio.fail_after(seconds):
                    found = await self._request(address, MetadataRequest(topics), Purpose.QUERY)
            except KafkaUnavailable as failure:
                failures[f"{address}: {failure}"] = None
            except trio.TooSlowError:
                failures[f"{address}: no response within {seconds:g} s"] = None
            else:
                self._check_token(address, found)
                await self._remember(found.brokers)
                return found
        raise KafkaUnavailable("; ".join(failures))

    async def send(
        self,
        node: int,
        request: KafkaRequest[T],
        purpose: Purpose = Purpose.QUERY,
        wait_seconds: float = 0,
    ) -> T:
        """Send a request to one broker; returns its response. Raises KafkaUnavailable."""
        address = self._brokers.get(node)
        if address is None:
            raise KafkaUnavailable(f"broker {node} is not in the cluster's metadata")
        try:
            with trio.fail_after(self._seconds + wait_seconds):
                return await self._request(address, request, purpose)
        except trio.TooSlowError:
            reason = f"no response within {self._seconds:g} s"
        except RequestUnsupported as failure:
            raise RequestUnsupported(f"{self.name(node)}: {failure}") from failure
        except KafkaUnavailable as failure:
            reason = str(failure)
        raise KafkaUnavailable(f"{self.name(node)}: {reason}{self._hint(address)}")

    def _hint(self, address: BrokerAddress) -> str:
        """Return an explanation of an advertised address that was never reached; else nothing."""
        configured = self._security.brokers
        if address in self._reached or address in map(_parse, configured):
            return ""
        return f" (the broker advertises this address; {', '.join(configured)} responded)"

    async def unreachable(self) -> list[str]:
        """Return why brokers do not respond at their advertised addresses; empty if all do."""
        failures: list[str] = []
        for node in list(self._brokers):
            try:
                await self.send(node, MetadataRequest([]))
            except KafkaUnavailable as failure:
                failures.append(str(failure))
        return failures

    # ---- connections

    def _candidates(self) -> Collection[BrokerAddress]:
        """Return the addresses to try for metadata: known brokers in any order, then others."""
        known = list(self._brokers.values())
        random.shuffle(known)
        # A broker with an open connection responds sooner and is more likely to be up.
        known.sort(key=lambda address: (address, Purpose.QUERY) not in self._connections)
        return dict.fromkeys((*known, *map(_parse, self._security.brokers)))

    async def _remember(self, brokers: Mapping[int, BrokerAddress]) -> None:
        self._brokers = dict(brokers)
        addresses = {*brokers.values(), *map(_parse, self._security.brokers)}
        self._reached &= addresses
        for key in [key for key in self._connections if key[0] not in addresses]:
            await self._drop(key)

    def _check_token(self, address: BrokerAddress, found: Metadata) -> None:
        """Raise if a broker rejects the token: it lists no brokers, and aiokafka ignores that."""
        tokens = self._security.tokens
        if tokens is not None and not found.brokers:
            tokens.forget()
            raise KafkaUnavailable(f"{address}: rejects the token {tokens.origin}")

    async def _request(
        self, address: BrokerAddress, request: KafkaRequest[T], purpose: Purpose
    ) -> T:
        """Send a request; a second time if a connection that was in use is closed.

        Brokers close idle connections, and those whose authentication has expired
        (`connections.max.reauth.ms`), which shows only with the next request. No request changes
        anything at the broker.
        """
        while True:
            connection, is_new = await self._connection(address, purpose)
            try:
                encoded = request.encode(connection.versions)
            except UnsupportedVersion as error:
                raise RequestUnsupported(str(error)) from error
            reason: str | None = None
            try:
                body = await connection.send(encoded)
                return request.decode(encoded.api_version, body)
            except MalformedResponse as error:
                reason = f"malformed response: {str(error)[:_MAX_SHOWN]}"
            except SEND_ERRORS as error:
                if is_new:
                    reason = self._explain(error)
            except trio.Cancelled:
                # A late response would be taken for the response to the next request.
                self._forget(address, purpose, connection)
                raise
            self._forget(address, purpose, connection)
            if reason is not None:
                raise KafkaUnavailable(reason)

    async def _connection(
        self, address: BrokerAddress, purpose: Purpose
    ) -> tuple[AuthenticatedConnection, bool]:
        """Return the connection, and whether it was opened for this request."""
        key = address, purpose
        connection = self._connections.get(key)
        if connection is not None and connection.is_open:
            return connection, False
        async with self._locks.setdefault(key, trio.Lock()):
            connection = self._connections.get(key)
            is_new = connection is None or not connection.is_open
            if connection is None or is_new:
                connection = self._connections[key] = await self._connect(address)
            return connection, is_new

    async def _connect(self, address: BrokerAddress) -> AuthenticatedConnection:
        if not 0 < address.port <= _LAST_PORT:
            raise KafkaUnavailable(f"malformed response: port {address.port}")
        try:
            address.host.encode("idna")
        except UnicodeError:
            raise KafkaUnavailable(f"{address.host[:_MAX_SHOWN]!r} is not a host name") from None
        try:
            self._security.connection()
        except OSError as error:
            raise KafkaUnavailable(f"the TLS files cannot be read: {error}") from error
        try:
            connection: AuthenticatedConnection = await self._call(
                self._security.connect,
                address.host,
                address.port,
                _LONGEST_REQUEST_SECONDS,
                _IDLE_SECONDS,
            )
            self._reached.add(address)
            return connection  # noqa: TRY300 -- gives it its type
        except AuthenticationFailed as error:
            reason = str(error)
        except TimeoutError:
            reason = "no response in time"
        except CONNECT_ERRORS as error:
            reason = self._explain(error)
        raise KafkaUnavailable(reason)

    def _explain(self, error: BaseException) -> str:
        why = self._security.why_rejected(error)
        if why is not None:
            return why
        cause = cause_of(error)
        match cause:
            case socket.gaierror():
                return "the name does not resolve"
            case ConnectionRefusedError():
                return "connection refused"
        return str(cause)[:_MAX_SHOWN] or type(cause).__name__

    def _forget(
        self, address: BrokerAddress, purpose: Purpose, connection: AuthenticatedConnection
    ) -> None:
        if self._connections.get((address, purpose)) is connection:
            del self._connections[address, purpose]
        connection.abort()

    async def _drop(self, key: tuple[BrokerAddress, Purpose]) -> None:
        connection = self._connections.pop(key, None)
        self._locks.pop(key, None)
        if connection is None:
            # Another task may have dropped the connection while this task closed others.
            return
        with trio.move_on_after(_CLOSE_SECONDS):
            await self._call(connection.close)

    async def _call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Await an asyncio function in the client's loop; may be called from any task."""
        if self._loop is None:
            raise KafkaUnavailable(_STOPPED)
        try:
            result: T = await aio_as_trio(function, loop=self._loop)(*args)
        except asyncio.CancelledError:
            # The loop ends with `running`; a cancelled caller gets trio.Cancelled.
            raise KafkaUnavailable(_STOPPED) from None
        return result


def _parse(broker: str) -> BrokerAddress:
    """Parse an address of KAFKA_BROKERS, which the settings have validated."""
    host, _, port = broker.rpartition(":")
    return BrokerAddress(host.removeprefix("[").removesuffix("]"), int(port))


async def why_unreachable(security: KafkaSecurity, seconds: float) -> str | None:
    """Return why a broker is unreachable at its advertised address; None if all are reachable.

    A broker that responds at an address of KAFKA_BROKERS returns the addresses that brokers
    advertise (`advertised.listeners`). These may be unreachable from here.
    """
    client = KafkaClient(security, seconds)
    async with client.running():
        try:
            await client.metadata([])
        except KafkaUnavailable as failure:
            return str(failure)
        return next(iter(await client.unreachable()), None)
