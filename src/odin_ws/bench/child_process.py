"""A child process of a benchmark: start, commands, events, exit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import trio

from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.messages import LoadPlan, PublishPlan, to_json
from odin_ws.bench.target import pinned

__all__ = ["Worker", "open_worker"]

# The first start on a machine compiles: 15 s on an idle one.
_READY_SECONDS = 120

# For responses that come at once, on a machine whose cores are all in use.
_ANSWER_SECONDS = 30

_READ_BYTES = 1 << 20


class Worker:
    """A child process that takes commands; `status` is its last status event."""

    def __init__(self, name: str, process: trio.Process, log: Path) -> None:
        self.status: dict[str, Any] = {}
        self._name = name
        self._process = process
        self._log = log
        self._news = trio.open_memory_channel[dict[str, Any]](16)

    async def send(self, do: str, **more: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(orjson.dumps({"do": do, **more}) + b"\n")
        except trio.BrokenResourceError as error:
            raise self._gone() from error

    async def wait_for(self, event: str, seconds: float = _ANSWER_SECONDS) -> dict[str, Any]:
        """Wait for an event; returns it. Raises BenchFailed on timeout or exit."""
        with trio.move_on_after(seconds):
            while True:
                try:
                    news = await self._news[1].receive()
                except trio.EndOfChannel:
                    raise self._gone() from None
                if news["event"] == event:
                    return news
        raise BenchFailed(f"the {self._name} process did not send {event!r} within {seconds:g} s")

    async def listen(self) -> None:
        """Read its events until it exits."""
        assert self._process.stdout is not None
        begun = b""
        async with self._news[0] as news:
            async for read in self._process.stdout:
                *lines, begun = (begun + read).split(b"\n")
                for line in lines:
                    said = orjson.loads(line)
                    if said["event"] == "status":
                        self.status = said
                    else:
                        await news.send(said)

    def _gone(self) -> BenchFailed:
        return BenchFailed(
            f"the {self._name} process has exited: {self._log.read_text(errors='replace')}"
        )


@asynccontextmanager
async def open_worker(
    name: str, plan: LoadPlan | PublishPlan, directory: Path, cores: Sequence[int]
) -> AsyncIterator[Worker]:
    """Start the process of a plan, "load" or "publisher", and wait until it is ready."""
    log = directory / f"{name}.log"
    with log.open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [*pinned(cores), sys.executable, "-m", f"odin_ws.bench.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=dict(os.environ),
            start_new_session=True,
        )
    worker = Worker(name, process, log)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.listen)
            assert process.stdin is not None
            await process.stdin.send_all(to_json(plan))
            await worker.wait_for("ready", _READY_SECONDS)
            yield worker
            nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
