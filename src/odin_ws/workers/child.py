"""One worker process: start, commands, HTTP requests to its ops port, kill.

Commands come over standard input, not by signals, because other programs send signals too: systemd
sends SIGTERM to every process of a unit, and a worker that counted signals would take the
supervisor's SIGTERM for a second one.

The ops socket has a name in Linux's abstract namespace instead of a file, so that a killed
supervisor leaves nothing behind and no directory must be writable. Such a name has no permissions:
any local process can connect, as to the ops port on loopback. So the pages require a token.
"""

from __future__ import annotations

import errno
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Final, Protocol

import attrs
import httpx
import trio

from odin_ws.settings import Secret

__all__ = [
    "DRAIN",
    "RELOAD",
    "STOP",
    "CannotStart",
    "Child",
    "NoResponse",
    "OpenChild",
    "RequestNotSent",
    "WorkerResponse",
    "open_child",
]

# Commands to a worker, of one byte each, so that a read never splits one. The end of the input
# means that the supervisor has exited.
DRAIN: Final = b"d"
STOP: Final = b"s"
RELOAD: Final = b"r"

# Seconds for a close frame to each client, and for the exit of Python.
_STOP_SECONDS: Final = 5.0

# errno values of limits of this process or machine; other values are failures of the worker.
_OWN_LIMITS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class CannotStart(Exception):
    """The system cannot start a process; the message says why."""


class NoResponse(Exception):
    """A worker's ops socket is unreachable, or the request failed there."""


class RequestNotSent(NoResponse):
    """This process lacks descriptors or memory for the request, whatever the worker's state."""


@attrs.frozen
class WorkerResponse:
    """A worker's response: HTTP status and body."""

    status: int
    text: str


class Child(Protocol):
    """A running worker process.

    A protocol, because tests of the supervisor run without processes.
    """

    @property
    def pid(self) -> int:
        """The process id."""
        ...

    async def request(self, path: str, body: bytes | None = None) -> WorkerResponse:
        """Return a page of the worker's ops port, or the response to `body`; has no timeout.

        Raises:
            NoResponse: the worker did not respond.
            RequestNotSent: a limit of this process or the machine prevented the request.
        """
        ...

    async def send_command(self, command: bytes) -> None:
        """Send DRAIN, STOP or RELOAD (of its certificate); does nothing after the worker's exit."""
        ...

    async def wait(self) -> int:
        """Wait for the process to exit; returns its exit status, -N after signal N."""
        ...

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        ...


# Starts the worker with this number and stops it at the end of the block. Raises CannotStart.
OpenChild = Callable[[int], AbstractAsyncContextManager[Child]]


class _Process:
    def __init__(
        self, process: trio.Process, orders: trio.abc.SendStream, client: httpx.AsyncClient
    ) -> None:
        self._process = process
        self._commands = orders
        self._client = client

    @property
    def pid(self) -> int:
        return self._process.pid

    async def request(self, path: str, body: bytes | None = None) -> WorkerResponse:
        method = "GET" if body is None else "POST"
        try:
            response = await self._client.request(method, path, content=body)
        except httpx.TransportError as error:
            raise (RequestNotSent if _is_own_limit(error) else NoResponse) from error
        if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            # The worker has logged the traceback.
            raise NoResponse
        return WorkerResponse(response.status_code, response.text)

    async def send_command(self, command: bytes) -> None:
        with suppress(trio.BrokenResourceError):
            await self._commands.send_all(command)

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        self._process.kill()


@asynccontextmanager
async def open_child(
    command: Sequence[str],
    environ: Mapping[str, str],
    number: int,
    *,
    ops_token: Secret | None = None,
) -> AsyncIterator[Child]:
    """Run `command --number N --ops-fd FD` until it exits; stops it at the end of the block.

    The worker's ops socket listens before the process starts, so that requests wait for the worker.
    `ops_token`: the bearer token of the worker's pages.

    Raises:
        CannotStart: the system cannot start the process.
    """
    name = f"\0odin-ws-{secrets.token_hex(16)}"
    try:
        process = await _start([*command, "--number", str(number)], environ, name)
    except OSError as error:
        raise CannotStart(str(error)) from error
    assert process.stdin is not None
    client = _client(name, ops_token)
    child = _Process(process, process.stdin, client)
    try:
        yield child
    finally:
        with trio.CancelScope(shield=True):
            await _end(child)
            await process.stdin.aclose()
            await client.aclose()


async def _start(command: Sequence[str], environ: Mapping[str, str], name: str) -> trio.Process:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        descriptor = listening.fileno()
        return await trio.lowlevel.open_process(
            [*command, "--ops-fd", str(descriptor)],
            stdin=subprocess.PIPE,
            env=environ,
            pass_fds=(descriptor,),
            # The supervisor receives Ctrl-C of a terminal and drains the workers.
            process_group=0,
        )


def _client(name: str, ops_token: Secret | None) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(
        uds=name,
        # The ops port serves one request per connection.
        limits=httpx.Limits(max_keepalive_connections=0),
        # No TLS: by default httpx would load certificate authorities for each worker.
        verify=False,
    )
    return httpx.AsyncClient(
        transport=transport,
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {ops_token.reveal()}"} if ops_token else None,
        timeout=None,  # noqa: S113 -- callers have timeouts
    )


def _is_own_limit(error: BaseException) -> bool:
    """Return whether the cause of an error is a limit of this process or the machine."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno in _OWN_LIMITS
        # httpcore removes `__cause__`, not `__context__`.
        cause = cause.__cause__ or cause.__context__
    return False


async def _end(child: _Process) -> None:
    """Stop a worker, which first sends each client a close frame; kill it after `_STOP_SECONDS`."""
    with trio.move_on_after(_STOP_SECONDS):
        await child.send_command(STOP)
        await child.wait()
        return
    child.kill()
    await child.wait()
