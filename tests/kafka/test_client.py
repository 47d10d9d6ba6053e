"""Requests to brokers: whom they go to, how long they take, and in which words they fail."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trustme

from odin_ws.kafka.access import KafkaAccess, TlsFiles
from odin_ws.kafka.client import KafkaClient, Purpose, why_unreachable
from odin_ws.kafka.errors import KafkaUnavailable, Refused, RequestUnsupported
from odin_ws.kafka.protocol import (
    LATEST,
    BrokerAddress,
    EpochEndsRequest,
    ListOffsetsRequest,
    OffsetFound,
)
from odin_ws.kafka.tokens import Tokens
from odin_ws.records import TopicPartition
from odin_ws.settings import Secret
from odin_ws.testing.ports import LOOPBACK
from tests.kafka.loopback_broker import (
    API_VERSIONS,
    LIST_OFFSETS,
    METADATA,
    LoopbackBroker,
    loopback_broker,
)

KEY = TopicPartition("odin.trades", 0)
END = ListOffsetsRequest({KEY: LATEST})

# For brokers that answer, and for those that do not.
SECONDS = 10.0
SOON = 0.4


def access_to(*brokers: LoopbackBroker | str) -> KafkaAccess:
    """KAFKA_BROKERS."""
    return KafkaAccess(tuple(one if isinstance(one, str) else one.address for one in brokers))


@asynccontextmanager
async def client_of(
    *brokers: LoopbackBroker | str, seconds: float = SECONDS
) -> AsyncIterator[KafkaClient]:
    """A client that runs for the length of the block."""
    client = KafkaClient(access_to(*brokers), seconds)
    async with client.running():
        yield client


def unused_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        port: int = one.getsockname()[1]
        return port


# ---- which brokers are asked


async def test_request_goes_over_one_connection_for_each_purpose() -> None:
    """A question must not wait behind a fetch."""
    async with loopback_broker() as broker, client_of(broker) as client:
        assert (await client.metadata([])).brokers == {0: BrokerAddress(LOOPBACK, broker.port)}
        for _ in range(3):
            assert await client.ask(0, END) == {KEY: OffsetFound(0, 7)}
        assert broker.accepted == 1
        await client.ask(0, END, Purpose.FETCH)
        assert broker.accepted == 2


async def test_known_brokers_are_asked_for_metadata_before_those_of_the_settings() -> None:
    """The list of the settings may be old: the cluster's own is as of the last metadata."""
    async with loopback_broker() as seed, loopback_broker() as member:
        seed.listed = member.listed = {1: (LOOPBACK, member.port)}
        async with client_of(seed) as client:
            for _ in range(3):
                await client.metadata([])
    assert (seed.asked[METADATA], member.asked[METADATA]) == (1, 2)


async def test_metadata_comes_from_a_broker_that_is_connected_already() -> None:
    """Not from each in turn: every connection costs both sides."""
    async with loopback_broker() as one, loopback_broker() as other:
        one.listed = other.listed = {1: (LOOPBACK, one.port), 2: (LOOPBACK, other.port)}
        async with client_of(one, other) as client:
            for _ in range(20):
                await client.metadata([])
        assert one.accepted + other.accepted == 1


async def test_settings_are_asked_again_when_no_known_broker_answers() -> None:
    """A cluster is found again that has moved to other addresses of the list."""
    async with loopback_broker() as seed, loopback_broker() as old:
        seed.listed = old.listed = {1: (LOOPBACK, old.port)}
        async with client_of(seed) as client:
            await client.metadata([])
            await client.metadata([])
            assert client.name(1) == f"broker 1 at {LOOPBACK}:{old.port}"
            old.disconnect()
            old.hangs = True
            seed.listed = {1: (LOOPBACK, seed.port)}
            client._seconds = 2 * SOON  # noqa: SLF001 -- now one that does not answer is asked
            await client.metadata([])
            assert client.brokers == {1: BrokerAddress(LOOPBACK, seed.port)}
            assert await client.ask(1, END) == {KEY: OffsetFound(0, 7)}


async def test_one_hanging_broker_voids_no_metadata() -> None:
    """The next one is asked after half of the time."""
    async with (
        loopback_broker(hangs=True) as bad,
        loopback_broker() as good,
        client_of(bad, good, seconds=SOON) as client,
    ):
        with trio.fail_after(2):
            assert len((await client.metadata([])).brokers) == 1


async def test_metadata_failure_names_every_broker_that_was_asked() -> None:
    """Each with its own reason."""
    port = unused_port()
    async with (
        loopback_broker(hangs=True) as bad,
        client_of(bad, f"{LOOPBACK}:{port}", seconds=SOON) as client,
    ):
        with pytest.raises(KafkaUnavailable) as failed:
            await client.metadata([])
    assert str(failed.value) == (
        f"{bad.address}: no answer within {SOON:g} s; {LOOPBACK}:{port}: nobody listens there"
    )


async def test_connection_to_an_old_address_is_dropped() -> None:
    """A broker that has moved is asked where it is now; the old connection is closed."""
    async with loopback_broker() as seed, loopback_broker() as old, loopback_broker() as new:
        seed.listed = old.listed = {1: (LOOPBACK, old.port)}
        async with client_of(seed) as client:
            await client.metadata([])
            await client.ask(1, END)
            assert old.open == 1
            old.listed = {1: (LOOPBACK, new.port)}
            await client.metadata([])
            with trio.fail_after(SECONDS):
                await old.closed.wait()
            await client.ask(1, END)
            assert (old.open, new.open) == (0, 1)
            # That of the settings stays.
            assert seed.open == 1


async def test_broker_that_metadata_does_not_name_is_unavailable() -> None:
    """An id alone says nowhere to connect."""
    async with loopback_broker() as broker, client_of(broker) as client:
        with pytest.raises(KafkaUnavailable, match="broker 9 is not in the cluster's metadata"):
            await client.ask(9, END)
        assert client.name(9) == "broker 9"
        assert client.addresses == (broker.address,)


# ---- connections that are lost


async def test_closed_connection_is_made_again() -> None:
    """Brokers close idle connections: the next request finds that out before it is sent."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        broker.disconnect()
        await broker.closed.wait()
        (connection,) = client._connections.values()  # noqa: SLF001 -- nothing else tells
        with trio.fail_after(SECONDS):
            while connection.is_open:  # noqa: ASYNC110 -- its end comes a moment later
                await trio.sleep(0.01)
        await client.metadata([])
        assert broker.accepted == 2


async def test_request_that_takes_too_long_closes_its_connection() -> None:
    """Its late answer would be in the way of the next one's."""
    async with loopback_broker() as broker, client_of(broker, seconds=SOON) as client:
        await client.metadata([])
        broker.hangs = True
        expected = rf"broker 0 at {LOOPBACK}:{broker.port}: no answer within {SOON:g} s"
        with pytest.raises(KafkaUnavailable, match=expected):
            await client.ask(0, END)
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        broker.hangs = False
        assert await client.ask(0, END) == {KEY: OffsetFound(0, 7)}
        assert broker.accepted == 2


async def test_cancelled_request_closes_its_connection() -> None:
    """Whoever gives up a request gives up its connection."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        broker.hangs = True
        with trio.move_on_after(0.1) as scope:
            await client.ask(0, END)
        assert scope.cancelled_caught
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        broker.hangs = False
        assert await client.ask(0, END) == {KEY: OffsetFound(0, 7)}


async def test_fetch_may_wait_for_longer_than_a_request() -> None:
    """The time for which the broker is asked to wait comes on top."""
    async with loopback_broker() as broker, client_of(broker, seconds=SOON) as client:
        await client.metadata([])
        answer = broker._answer  # noqa: SLF001 -- the usual one

        async def later(request: bytes) -> bytes:
            await trio.sleep(2 * SOON)
            del broker.answers[LIST_OFFSETS]
            return await answer(LIST_OFFSETS, request)

        broker.answers[LIST_OFFSETS] = later
        found = await client.ask(0, END, Purpose.FETCH, wait_seconds=2 * SOON)
        assert found == {KEY: OffsetFound(0, 7)}


async def test_connection_lost_in_the_middle_of_a_request_is_told() -> None:
    """The text says what the broker may mean by it."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])

        async def close(_request: bytes) -> bytes:
            broker.disconnect()
            await trio.sleep_forever()
            return b""

        broker.answers[LIST_OFFSETS] = close
        with pytest.raises(KafkaUnavailable, match=r"broker 0 at .*: closed the connection"):
            await client.ask(0, END)


# ---- the end of the client


async def test_stopped_client_is_unavailable() -> None:
    """Also before it runs."""
    async with loopback_broker() as broker:
        client = KafkaClient(access_to(broker), SECONDS)
        with pytest.raises(KafkaUnavailable, match="the Kafka client has stopped"):
            await client.metadata([])
        async with client.running():
            await client.metadata([])
        with pytest.raises(KafkaUnavailable, match="the Kafka client has stopped"):
            await client.metadata([])
        with pytest.raises(KafkaUnavailable, match="the Kafka client has stopped"):
            await client.ask(0, END)
        with trio.fail_after(SECONDS):
            await broker.closed.wait()


@pytest.mark.parametrize("is_connected", [True, False])
async def test_requests_of_other_tasks_end_with_the_client(
    is_connected: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Both while they connect, and while they wait for an answer."""
    failures: list[str] = []
    async with loopback_broker() as broker, trio.open_nursery() as nursery:
        client = KafkaClient(access_to(broker), SECONDS)

        async def ask() -> None:
            try:
                await client.ask(0, END, Purpose.QUERY if is_connected else Purpose.FETCH)
            except KafkaUnavailable as failure:
                failures.append(str(failure))

        async with client.running():
            await client.metadata([])
            broker.hangs = True
            before = broker.asked.total()
            nursery.start_soon(ask)
            nursery.start_soon(ask)
            with trio.fail_after(SECONDS):
                while broker.asked.total() == before:  # noqa: ASYNC110 -- the fake tells nobody
                    await trio.sleep(0.01)
        with trio.fail_after(SECONDS):
            while nursery.child_tasks:  # noqa: ASYNC110 -- they end by themselves
                await trio.sleep(0.01)
    assert len(failures) == 2


# ---- texts


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("name.invalid", 9092, "the name does not resolve"),
        (LOOPBACK, None, "nobody listens there"),
        ("a..b", 9092, "its answer makes no sense: Unicode"),
        (LOOPBACK, 70_000, "its answer makes no sense: OverflowError"),
        ("x\0y", 9092, "its answer makes no sense: "),
    ],
)
async def test_address_that_cannot_be_used_is_told(
    host: str, port: int | None, reason: str
) -> None:
    """A broker may advertise anything."""
    async with loopback_broker() as broker, client_of(broker) as client:
        broker.listed = {5: (host, port or unused_port())}
        await client.metadata([])
        with pytest.raises(KafkaUnavailable) as failed:
            await client.ask(5, END)
    assert str(failed.value).startswith(f"{client.name(5)}: {reason}")


@pytest.mark.parametrize("key", [API_VERSIONS, METADATA])
@pytest.mark.parametrize("garbage", [b"", b"\xff" * 4, b"\x7f" * 64, b"\0\0\0"])
async def test_answer_that_makes_no_sense_is_told(key: int, garbage: bytes) -> None:
    """In a line of moderate length; the connection is not used again."""
    async with loopback_broker(garbles={key: garbage}) as broker, client_of(broker) as client:
        with pytest.raises(KafkaUnavailable) as failed:
            await client.metadata([])
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        assert str(failed.value).startswith(f"{broker.address}: its answer makes no sense: ")
        assert len(str(failed.value)) < 200
        broker.garbles = {}
        await client.metadata([])


async def test_broker_that_speaks_another_protocol_is_told() -> None:
    """An HTTP server on Kafka's port, say."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        async with client_of(f"{LOOPBACK}:{port}", seconds=2) as client:
            with pytest.raises(KafkaUnavailable, match="closed the connection"):
                await client.metadata([])
        nursery.cancel_scope.cancel()


async def test_unsupported_request_names_broker_and_versions() -> None:
    """The connection stays."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        with pytest.raises(RequestUnsupported) as failed:
            await client.ask(0, EpochEndsRequest({KEY: 1}, {KEY: 1}))
        assert str(failed.value) == (
            f"broker 0 at {broker.address}: the broker answers OffsetForLeaderEpoch requests of "
            "version none; odin-ws sends 2 to 4"
        )
        await client.ask(0, END)
        assert broker.accepted == 1


async def test_certificate_that_is_not_trusted_is_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """In the words of OpenSSL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert(LOOPBACK).configure_cert(context)
    other = tmp_path_factory.mktemp("tls") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(other))

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        access = KafkaAccess((f"{LOOPBACK}:{port}",), "SSL", tls=TlsFiles(other))
        client = KafkaClient(access, SECONDS)
        async with client.running():
            with pytest.raises(KafkaUnavailable, match="its certificate is not trusted"):
                await client.metadata([])
        nursery.cancel_scope.cancel()


async def test_tls_files_that_cannot_be_read_are_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """They may go away while the service runs."""
    missing = tmp_path_factory.mktemp("tls") / "ca.pem"
    client = KafkaClient(KafkaAccess(("nowhere:1",), "SSL", tls=TlsFiles(missing)), SECONDS)
    async with client.running():
        with pytest.raises(KafkaUnavailable, match=r"TLS files cannot be read: .*ca\.pem"):
            await client.metadata([])


# ---- credentials


class FailingTokens(Tokens):
    """A source that raises."""

    origin = "of a test"

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def token(self) -> str:
        """See AbstractTokenProvider."""
        raise self.failure


def token_access(broker: LoopbackBroker, tokens: Tokens) -> KafkaAccess:
    """By OAUTHBEARER."""
    return KafkaAccess((broker.address,), "SASL_PLAINTEXT", "OAUTHBEARER", tokens=tokens)


def offer(broker: LoopbackBroker, mechanism: bytes, error: int = 0) -> None:
    """Have a broker offer a SASL mechanism and take nobody's credentials."""
    broker.versions = {**broker.versions, 17: (0, 1), 36: (0, 0)}
    size = len(mechanism).to_bytes(2, "big")
    handshake = error.to_bytes(2, "big") + b"\0\0\0\1" + size + mechanism
    words = b"not you"
    refusal = (58).to_bytes(2, "big") + len(words).to_bytes(2, "big") + words + b"\xff\xff\xff\xff"
    broker.garbles = {17: handshake, 36: refusal}


async def test_rejected_credentials_are_told() -> None:
    """In the broker's words."""
    async with loopback_broker() as broker:
        offer(broker, b"PLAIN")
        access = KafkaAccess((broker.address,), "SASL_PLAINTEXT", "PLAIN", "me", Secret("x"))
        client = KafkaClient(access, SECONDS)
        async with client.running():
            with pytest.raises(KafkaUnavailable, match="authentication failed: not you"):
                await client.metadata([])


async def test_mechanism_that_is_not_offered_is_told() -> None:
    """With the setting's name."""
    async with loopback_broker() as broker:
        offer(broker, b"GSSAPI", 33)
        access = KafkaAccess((broker.address,), "SASL_PLAINTEXT", "PLAIN", "me", Secret("x"))
        client = KafkaClient(access, SECONDS)
        async with client.running():
            with pytest.raises(KafkaUnavailable, match="KAFKA_SASL_MECHANISM=PLAIN"):
                await client.metadata([])


async def test_missing_token_is_told() -> None:
    """Its source says why there is none."""
    async with loopback_broker() as broker:
        offer(broker, b"OAUTHBEARER")
        client = KafkaClient(token_access(broker, FailingTokens(Refused("no token"))), SECONDS)
        async with client.running():
            with pytest.raises(KafkaUnavailable, match=f"{broker.address}: no token"):
                await client.metadata([])


@pytest.mark.parametrize("bug", [KeyError("r"), OSError("bug"), ZeroDivisionError()])
async def test_bug_in_a_token_source_is_no_brokers_fault(bug: Exception) -> None:
    """The same errors raised by a connection are: these are not hidden."""
    async with loopback_broker() as broker:
        offer(broker, b"OAUTHBEARER")
        client = KafkaClient(token_access(broker, FailingTokens(bug)), SECONDS)
        async with client.running():
            with pytest.raises((KeyError, RuntimeError, ZeroDivisionError)):
                await client.metadata([])


# ---- advertised addresses


async def test_why_unreachable_names_the_advertised_address() -> None:
    """The bootstrap worked: the setting to look at is the broker's."""
    async with loopback_broker() as broker:
        assert await why_unreachable(access_to(broker), SECONDS) is None
        broker.listed = {0: (LOOPBACK, broker.port), 1: ("name.invalid", 9092)}
        assert await why_unreachable(access_to(broker), SECONDS) == (
            "broker 1 at name.invalid:9092: the name does not resolve "
            f"(the broker advertises this address; {broker.address} answered)"
        )
    assert await why_unreachable(access_to(broker), SECONDS) == (
        f"{broker.address}: nobody listens there"
    )
