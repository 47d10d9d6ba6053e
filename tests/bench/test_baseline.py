"""The baseline: a C program that answers a request, and sends messages at a rate."""

from __future__ import annotations

from pathlib import Path

import trio

from odin_ws.bench.baseline import compile_baseline, open_baseline

_REQUEST = b"GET /ws HTTP/1.1\r\n\r\n"

# A message at 100/s comes within 10 ms.
_SECONDS = 0.3


async def _received(directory: Path, rate: float) -> bytes:
    """Return what a client has received after `_SECONDS`."""
    received = b""
    program = await compile_baseline(directory)
    async with open_baseline(program, rate, 330, []) as target:
        stream = await trio.open_tcp_stream(target.host, target.port)
        await stream.send_all(_REQUEST)
        with trio.move_on_after(_SECONDS):
            async for data in stream:
                received += data
        await stream.aclose()
    return received


async def test_baseline_sends_messages_at_its_rate(tmp_path: Path) -> None:
    """After its response to the request."""
    received = await _received(tmp_path, 100)
    assert received.startswith(b"HTTP/1.1 101")
    assert 10 <= received.count(b'"seq":') <= 40


async def test_baseline_without_rate_sends_nothing(tmp_path: Path) -> None:
    """So `connects` compares connects alone: before, it sent without a pause."""
    received = await _received(tmp_path, 0)
    assert received.startswith(b"HTTP/1.1 101")
    assert b"seq" not in received
