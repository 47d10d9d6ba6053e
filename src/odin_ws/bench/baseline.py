"""The baseline: a minimal send loop in C, compiled on demand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import trio

from odin_ws.bench.errors import BenchFailed
from odin_ws.bench.server import Target, pinned, until_ready
from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess

__all__ = ["compile_baseline", "open_baseline"]

_SOURCE: Final = "baseline.c"
_READY_SECONDS: Final = 10
_STOP_SECONDS: Final = 5


async def compile_baseline(directory: Path) -> Path:
    """Compile the baseline; returns the path of the program.

    Raises:
        BenchFailed: there is no C compiler, or the compiler rejects the source.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchFailed("the baseline is a C program and needs a C compiler `cc` on the PATH")
    program = directory / "baseline"
    with as_file(files("odin_ws.bench") / _SOURCE) as source:
        done = await trio.run_process(
            [compiler, "-O2", "-o", str(program), str(source)],
            capture_stderr=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    if done.returncode:
        raise BenchFailed(f"{compiler} cannot compile {_SOURCE}:\n{done.stderr.decode()}")
    return program


@asynccontextmanager
async def open_baseline(
    program: Path, rate: float, record_bytes: int, cores: Sequence[int]
) -> AsyncIterator[Target]:
    """Run the baseline on `cores`; it sends `rate` messages per second to each connection."""
    (port,) = free_ports(1)
    words = [*pinned(cores), str(program), str(port), str(rate), str(record_bytes)]
    process = ChildProcess(words, program.with_suffix(".log"))
    await process.start()
    try:
        try:
            await until_ready(process, partial(_listens, port), _READY_SECONDS)
        except BenchFailed as error:
            raise BenchFailed(f"the baseline: {error}") from error
        yield Target(LOOPBACK, port, "/ws", (process.pid,))
    finally:
        with trio.CancelScope(shield=True):
            await process.end(_STOP_SECONDS)


async def _listens(port: int) -> bool:
    try:
        await (await trio.open_tcp_stream(LOOPBACK, port)).aclose()
    except OSError:
        return False
    return True
