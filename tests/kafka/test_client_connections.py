"""Connections that brokers or networks end without a word, and names with several addresses."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from odin_ws.kafka import client as client_module
from odin_ws.kafka.client import Purpose
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.protocol import OffsetFound
from odin_ws.testing.ports import LOOPBACK
from tests.kafka.clients import END, KEY, SECONDS, client_of
from tests.kafka.loopback_broker import LIST_OFFSETS, LoopbackBroker, loopback_broker

FOUND = {KEY: OffsetFound(0, 7)}


def close_at_requests(broker: LoopbackBroker, count: int) -> None:
    """Close the connection instead of answering so many requests, as after `max.reauth.ms`."""
    response = broker._answer  # noqa: SLF001 -- the usual one
    left = count

    async def close(request: bytes) -> bytes:
        nonlocal left
        left -= 1
        if not left:
            del broker.responses[LIST_OFFSETS]
        if left >= 0:
            broker.disconnect()
            await trio.sleep_forever()
        return await response(LIST_OFFSETS, request)

    broker.responses[LIST_OFFSETS] = close


@pytest.mark.parametrize("purpose", Purpose)
async def test_request_on_a_used_connection_that_the_broker_closes_is_sent_again(
    purpose: Purpose,
) -> None:
    """A broker closes a connection with expired authentication only at the next request."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        assert await client.send(0, END, purpose) == FOUND
        before = broker.accepted
        close_at_requests(broker, 1)
        assert await client.send(0, END, purpose) == FOUND
        assert broker.accepted == before + 1


async def test_request_is_sent_twice_at_most() -> None:
    """A broker that closes a new connection, too, is unavailable."""
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        close_at_requests(broker, 3)
        with pytest.raises(KafkaUnavailable, match="closed the connection"):
            await client.send(0, END)
        assert (broker.asked[LIST_OFFSETS], broker.accepted) == (2, 2)
        with pytest.raises(KafkaUnavailable, match="closed the connection"):
            await client.send(0, END)
        assert (broker.asked[LIST_OFFSETS], broker.accepted) == (3, 3)
        assert await client.send(0, END) == FOUND


async def test_idle_connection_closes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall may forget it without a word: the next request would wait for its timeout."""
    monkeypatch.setattr(client_module, "_IDLE_SECONDS", 0.2)
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        with trio.fail_after(SECONDS):
            await broker.closed.wait()
        assert await client.send(0, END) == FOUND
        assert broker.accepted == 2


async def test_connection_with_a_waiting_request_is_not_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A fetch may wait for records for long."""
    monkeypatch.setattr(client_module, "_IDLE_SECONDS", 0.1)
    async with loopback_broker() as broker, client_of(broker) as client:
        await client.metadata([])
        response = broker._answer  # noqa: SLF001 -- the usual one

        async def later(request: bytes) -> bytes:
            await trio.sleep(0.5)
            del broker.responses[LIST_OFFSETS]
            return await response(LIST_OFFSETS, request)

        broker.responses[LIST_OFFSETS] = later
        assert await client.send(0, END, Purpose.FETCH) == FOUND
        assert broker.asked[LIST_OFFSETS] == 1


async def test_dead_address_of_a_name_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first address answers nothing, not even that it is closed; the second is the broker's."""
    find = socket.getaddrinfo
    with socket.socket() as dead, socket.socket() as waiting, socket.socket() as refused:
        dead.bind(("127.0.0.2", 0))
        dead.listen(0)
        # Fill its queue: the kernel drops what comes after.
        for one in (waiting, refused):
            one.settimeout(0)
            one.connect_ex(dead.getsockname())
        async with loopback_broker() as broker:

            def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
                if host != "kafka.test":
                    return find(host, port, *args, **options)
                stream = socket.AF_INET, socket.SOCK_STREAM, 6, ""
                return [(*stream, dead.getsockname()), (*stream, (LOOPBACK, broker.port))]

            monkeypatch.setattr(socket, "getaddrinfo", resolve)
            async with client_of(f"kafka.test:{broker.port}") as client:
                with trio.fail_after(SECONDS / 2):
                    await client.metadata([])
            assert broker.accepted == 1
