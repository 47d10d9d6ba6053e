"""Requests to brokers: choice of the broker, timeouts and errors."""

from __future__ import annotations

import pytest
import trio

from odin_ws.kafka.client import KafkaClient, Purpose
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.protocol import (
    BrokerAddress,
    OffsetFound,
)
from odin_ws.testing.ports import LOOPBACK
from tests.kafka.clients import (
    END,
    KEY,
    SECONDS,
    SOON,
    access_to,
    client_of,
    unused_port,
)
from tests.kafka.loopback_broker import (
    LIST_OFFSETS,
    METADATA,
    loopback_broker,
)


async def test_each_purpose_has_its_own_connection() -> None:
    """A metadata request must not wait behind a fetch."""
    async with loopback_broker() as broker, client_of(broker) as client:
        assert (await client.metadata([])).brokers == {0: BrokerAddress(LOOPBACK, broker.port)}
        for _ in range(3):
            assert await client.send(0, END) == {KEY: OffsetFound(0, 7)}
        assert broker.accepted == 1
        await client.send(0, END, Purpose.FETCH)
        assert broker.accepted == 2


async def test_metadata_is_requested_from_known_brokers_first() -> None:
    """KAFKA_BROKERS may be out of date; the brokers of the last metadata are newer."""
    async with loopback_broker() as seed, loopback_broker() as member:
        seed.listed = member.listed = {1: (LOOPBACK, member.port)}
        async with client_of(seed) as client:
            for _ in range(3):
                await client.metadata([])
    assert (seed.asked[METADATA], member.asked[METADATA]) == (1, 2)


async def test_metadata_uses_an_open_connection() -> None:
    """Each new connection costs both sides."""
    async with loopback_broker() as one, loopback_broker() as other:
        one.listed = other.listed = {1: (LOOPBACK, one.port), 2: (LOOPBACK, other.port)}
        async with client_of(one, other) as client:
            for _ in range(20):
                await client.metadata([])
        assert one.accepted + other.accepted == 1


async def test_bootstrap_brokers_are_used_if_no_known_broker_responds() -> None:
    """The client finds a cluster that has moved to other addresses of the list."""
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
            assert await client.send(1, END) == {KEY: OffsetFound(0, 7)}


async def test_hanging_broker_leaves_time_for_the_next() -> None:
    """The next broker is tried after half of the time."""
    async with (
        loopback_broker(hangs=True) as bad,
        loopback_broker() as good,
        client_of(bad, good, seconds=SOON) as client,
    ):
        with trio.fail_after(2):
            assert len((await client.metadata([])).brokers) == 1


async def test_metadata_failure_names_every_tried_broker() -> None:
    """Each with its own reason."""
    port = unused_port()
    async with (
        loopback_broker(hangs=True) as bad,
        client_of(bad, f"{LOOPBACK}:{port}", seconds=SOON) as client,
    ):
        with pytest.raises(KafkaUnavailable) as failed:
            await client.metadata([])
    assert str(failed.value) == (
        f"{bad.address}: no response within {SOON:g} s; {LOOPBACK}:{port}: connection refused"
    )


async def test_connection_to_an_old_address_is_dropped() -> None:
    """The client connects to the new address of a broker and closes the old connection."""
    async with loopback_broker() as seed, loopback_broker() as old, loopback_broker() as new:
        seed.listed = old.listed = {1: (LOOPBACK, old.port)}
        async with client_of(seed) as client:
            await client.metadata([])
            await client.send(1, END)
            assert old.open == 1
            old.listed = {1: (LOOPBACK, new.port)}
            await client.metadata([])
            with trio.fail_after(SECONDS):
                await old.closed.wait()
            await client.send(1, END)
            assert (old.open, new.open) == (0, 1)
            # That of the settings stays.
            assert seed.open == 1


async def test_unknown_broker_id_is_unavailable() -> None:
    """An id alone has no address."""
    async with loopback_broker() as broker, client_of(broker) as client:
        with pytest.raises(KafkaUnavailable, match="broker 9 is not in the cluster's metadata"):
            await client.send(9, END)
        assert client.name(9) == "broker 9"
        assert client.addresses == (broker.address,)


async def test_closed_connection_is_reopened() -> None:
    """Brokers close idle connections: the next request notices before it is sent."""
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


async def test_request_timeout_closes_connection() -> None:
    """A late response would be taken for the next one."""
    async with loopback_broker() as broker, client_of(broker, seconds=SOON) as client:
        await client.metadata([])
        broker.hangs = True
        expected = rf"broker 0 at {LOOPBACK}:{broker.port}: no response within {SOON:g} s"
        with pytest.raises(KafkaUnavailable, match=expected):
            await client.send(0, END)
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        broker.hangs = False
        assert await client.send(0, END) == {KEY: OffsetFound(0, 7)}
        assert broker.accepted == 2


async def test_cancelled_request_closes_its_connection() -> None:
    """A late response would be taken for the next one."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        broker.hangs = True
        with trio.move_on_after(0.1) as scope:
            await client.send(0, END)
        assert scope.cancelled_caught
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        broker.hangs = False
        assert await client.send(0, END) == {KEY: OffsetFound(0, 7)}


async def test_fetch_timeout_includes_max_wait() -> None:
    """The broker's wait for records is added to the request timeout."""
    async with loopback_broker() as broker, client_of(broker, seconds=SOON) as client:
        await client.metadata([])
        response = broker._answer  # noqa: SLF001 -- the usual one

        async def later(request: bytes) -> bytes:
            await trio.sleep(2 * SOON)
            del broker.responses[LIST_OFFSETS]
            return await response(LIST_OFFSETS, request)

        broker.responses[LIST_OFFSETS] = later
        found = await client.send(0, END, Purpose.FETCH, wait_seconds=2 * SOON)
        assert found == {KEY: OffsetFound(0, 7)}


async def test_connection_lost_during_request_is_reported() -> None:
    """The text names a possible cause."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])

        async def close(_request: bytes) -> bytes:
            broker.disconnect()
            await trio.sleep_forever()
            return b""

        broker.responses[LIST_OFFSETS] = close
        with pytest.raises(KafkaUnavailable, match=r"broker 0 at .*: closed the connection"):
            await client.send(0, END)


async def test_stopped_client_is_unavailable() -> None:
    """Also before it is started."""
    async with loopback_broker() as broker:
        client = KafkaClient(access_to(broker), SECONDS)
        with pytest.raises(KafkaUnavailable, match="the Kafka client has stopped"):
            await client.metadata([])
        async with client.running():
            await client.metadata([])
        with pytest.raises(KafkaUnavailable, match="the Kafka client has stopped"):
            await client.metadata([])
        with pytest.raises(KafkaUnavailable, match="the Kafka client has stopped"):
            await client.send(0, END)
        with trio.fail_after(SECONDS):
            await broker.closed.wait()


@pytest.mark.parametrize("is_connected", [True, False])
async def test_requests_of_other_tasks_end_with_the_client(
    is_connected: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Both while they connect and while they wait for a response."""
    failures: list[str] = []
    async with loopback_broker() as broker, trio.open_nursery() as nursery:
        client = KafkaClient(access_to(broker), SECONDS)

        async def ask() -> None:
            try:
                await client.send(0, END, Purpose.QUERY if is_connected else Purpose.FETCH)
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
