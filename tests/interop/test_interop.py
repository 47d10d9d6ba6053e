"""Clients of other libraries agree on compression, and read single frames and batches."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from odin_ws.hub import packing
from odin_ws.protocol.deflate import Compressor
from tests.client_js.follower import node_command
from tests.interop.serving import CONNECTIONS, exchange, serving

HERE: Final = Path(__file__).parent
COUNT: Final = 25


def python(name: str) -> list[str]:
    """A client in Python."""
    return [sys.executable, str(HERE / f"{name}_client.py")]


def node() -> list[str]:
    """Node's own WebSocket."""
    return [*node_command(), str(HERE / "client.mjs")]


def ws() -> list[str]:
    """Node's most used library."""
    return [*node_command(), str(HERE / "client.mjs")]


def chromium() -> list[str]:
    """A page in a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed")
    return [*python("chromium"), browser]


def go(library: str) -> list[str]:
    """A library for Go; `make test` builds the program."""
    return [built(HERE / "go" / "client"), library]


def built(path: Path) -> str:
    """What the Makefile has put there; skips the test without it."""
    if not path.exists():
        pytest.skip(f"{path.name} is missing: make test makes it")
    return str(path)


# The program, what is added behind its arguments, and the parameters that it is answered.
NO_TAKEOVER: Final = "server_no_context_takeover; client_no_context_takeover"
CLIENTS: Final[dict[str, tuple[Callable[[], list[str]], list[str], str]]] = {
    "websockets": (lambda: python("websockets"), [], NO_TAKEOVER),
    "aiohttp": (lambda: python("aiohttp"), [], "permessage-deflate"),
    "node": (node, [], "permessage-deflate"),
    "ws": (ws, ["ws"], "permessage-deflate"),
    "chromium": (chromium, [], "permessage-deflate"),
    "gorilla": (lambda: go("gorilla"), [], NO_TAKEOVER),
    "coder": (lambda: go("coder"), [], NO_TAKEOVER),
    "coder with context takeover": (lambda: go("coder-takeover"), [], NO_TAKEOVER),
}


def watch(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server compresses from here on."""
    compressed: list[bytes] = []

    class Watched(Compressor):
        def compress(self, text: bytes) -> bytes:
            compressed.append(text)
            return super().compress(text)

    monkeypatch.setattr(packing, "Compressor", Watched)
    return compressed


async def test_our_client_reads_what_is_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for batches, and offers compression."""
    compressed = watch(monkeypatch)
    async with serving() as server:
        found, expected = await exchange(server, python("odin"), "batch", COUNT, [str(COUNT)])
    assert len(compressed) == 1
    assert len(found.messages) == CONNECTIONS
    for messages in found.messages:
        assert [message["seq"] for message in messages] == list(range(1, COUNT + 1))
        assert [message["data"] for message in messages] == expected


@pytest.mark.parametrize("frames", ["single", "batch"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_reads_what_is_compressed(
    name: str, frames: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every message comes on each connection, whole and in order."""
    compressed = watch(monkeypatch)
    program, more, agreed = CLIENTS[name]
    extra = [built(HERE / "node" / "node_modules" / "ws" / "wrapper.mjs")] if more else []
    async with serving() as server:
        found, expected = await exchange(server, program(), frames, COUNT, extra)
    assert agreed in found.extensions
    assert len(found.messages) == CONNECTIONS
    for messages in found.messages:
        assert [message["seq"] for message in messages] == list(range(1, COUNT + 1))
        assert [message["data"] for message in messages] == expected
    assert len(compressed) == (1 if frames == "batch" else COUNT)
