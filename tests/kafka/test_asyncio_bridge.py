"""Errors in asyncio fail the block; leftovers of a cancelled start do not."""

import asyncio
import gc
import struct
import warnings

import pytest
import trio
import trio.testing
from aiokafka import AIOKafkaProducer

from odin_ws.kafka.asyncio_bridge import call_aiokafka, open_asyncio, running
from odin_ws.kafka.trio_asyncio_compat import aio_as_trio
from odin_ws.testing.ports import LOOPBACK

_METADATA = 3
_API_VERSIONS = 18


async def silent_about_itself(stream: trio.SocketStream) -> None:
    """A broker that says which requests it knows, and answers nothing else."""
    data = b""
    while more := await stream.receive_some():
        data += more
        while len(data) >= 12 and len(data) >= (end := 4 + struct.unpack_from("!i", data)[0]):
            _size, key, _version, correlation = struct.unpack_from("!ihhi", data)
            data = data[end:]
            if key == _API_VERSIONS:
                known = struct.pack("!hihhhhhh", 0, 2, _METADATA, 0, 5, _API_VERSIONS, 0, 0)
                response = struct.pack("!i", correlation) + known
                await stream.send_all(struct.pack("!i", len(response)) + response)


async def test_slow_start_fails_alone() -> None:
    """Its leftover connection is closed and logged; the loop continues."""
    listener, *_ = await trio.open_tcp_listeners(0, host=LOOPBACK)
    address = f"{LOOPBACK}:{listener.socket.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, silent_about_itself, [listener])
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            async with open_asyncio():
                with pytest.raises(trio.TooSlowError):
                    async with running(lambda: AIOKafkaProducer(bootstrap_servers=address), 0.3):
                        pass
                gc.collect()
                await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("passes", range(12))
async def test_cancelled_connect_leaves_no_socket(passes: int) -> None:
    """Cancelled after any pass of the loop, also when the connect has just succeeded."""
    listener, *_ = await trio.open_tcp_listeners(0, host=LOOPBACK)
    port = listener.socket.getsockname()[1]

    async def connect_and_cancel() -> None:
        loop = asyncio.get_running_loop()
        connecting = loop.create_task(loop.create_connection(asyncio.Protocol, LOOPBACK, port))
        for _ in range(passes):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        if not connecting.cancelled():
            transport, _protocol = connecting.result()
            transport.abort()

    with listener.socket:
        async with open_asyncio():
            await aio_as_trio(connect_and_cancel)()
            await trio.testing.wait_all_tasks_blocked()
        with warnings.catch_warnings(action="error", category=ResourceWarning):
            gc.collect()


async def test_report_without_exception_does_not_fail_the_block() -> None:
    """Asyncio also calls the exception handler without an exception."""
    async with open_asyncio():
        asyncio.get_event_loop().call_exception_handler({"message": "Unclosed something"})
        await trio.testing.wait_all_tasks_blocked()


async def test_error_in_callback_fails_the_block() -> None:
    """A bug must not be swallowed."""

    async def fail_later() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)

    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with open_asyncio():
            await aio_as_trio(fail_later)()
            await trio.sleep_forever()


async def test_bug_in_our_code_is_raised() -> None:
    """Errors of types that a connection could raise too end the service if they are ours."""

    async def fail() -> None:
        raise KeyError("r")

    with pytest.RaisesGroup(KeyError, flatten_subgroups=True, allow_unwrapped=True):
        async with open_asyncio():
            await call_aiokafka(fail)
