"""A closed connection is freed by reference counting, without the garbage collector.

A full collection walks through the objects of all connections, and stops all messages for that
time: 0.3 s with 3,000 connections.
"""

import gc
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from odin_ws.handshake.request import HandshakeRequest
from odin_ws.testing.scenario import Scenario
from tests.scenarios.wire import Op, frame, request

_UPGRADE = request()


def _with_command(text: bytes) -> bytes:
    return _UPGRADE + frame(Op.TEXT, text)


@pytest.fixture
def kept() -> Iterator[list[object]]:
    """Objects that only the collector would free: DEBUG_SAVEALL keeps them in `gc.garbage`."""
    # Collections skip frozen objects: here all that were there before, half a second's worth. They
    # stay frozen, as conftest.py has frozen most of them for all tests.
    gc.freeze()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize(
    "data",
    [
        b"GET /ws HTTP/1.1\r\n",
        b"\x00\x01 nonsense\r\n\r\n",
        request("/elsewhere"),
        request(method="POST"),
        request(headers={"X": "y" * 20_000}),
        _UPGRADE,
        _with_command(b'{"type":"subscribe","data":{"channels":["*.trade"]}}'),
        _with_command(b'{"type":"resume","data":{"channels":["*.trade"],"positions":{}}}'),
        _with_command(b'{"type":"subscribe","data":{"channels":["*.trade"],"delivery":"latest"}}'),
        _with_command(b"?") + frame(Op.TEXT, b"?") * 50,
        _UPGRADE + frame(Op.PING) * 200,
        _UPGRADE + frame(Op.BINARY, b"x"),
        _UPGRADE + frame(Op.TEXT, b"\xff"),
        _UPGRADE + frame(Op.TEXT, b"{", fin=False),
        _UPGRADE + frame(Op.CLOSE),
    ],
    ids=[
        "half a head",
        "no HTTP",
        "elsewhere",
        "wrong method",
        "too large a head",
        "silent",
        "subscribed",
        "resumed",
        "latest",
        "nonsense",
        "pings",
        "binary",
        "no UTF-8",
        "unfinished",
        "closed",
    ],
)
async def test_closed_connection_leaves_no_reference_cycle(
    odin_scenario: Scenario, kept: list[object], data: bytes
) -> None:
    """Neither our objects nor those of h11 and wsproto, whatever the client sent."""
    stream = await odin_scenario.dial()
    await stream.send_all(data)
    for _ in range(30):
        odin_scenario.publish("BTC", "trade")
        await trio.sleep(1)
    await stream.aclose()
    await trio.sleep(60)
    gc.collect()
    names = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in kept)
    assert not [name for name in names if name.startswith(("odin_ws.", "h11.", "wsproto."))]


async def test_open_connection_keeps_no_request(odin_scenario: Scenario) -> None:
    """Headers of 12,000 idle connections would take megabytes."""
    stream = await odin_scenario.dial()
    await stream.send_all(_with_command(b'{"type":"subscribe","data":{"channels":["*.trade"]}}'))
    await trio.sleep(1)
    assert odin_scenario.service.server.connections
    assert not [one for one in gc.get_objects() if isinstance(one, HandshakeRequest)]
    await stream.aclose()
