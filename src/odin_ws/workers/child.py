"""One worker process: start, commands, HTTP requests to its ops port, kill.

It is told through its standard input and not by signals: those come from others too. systemd
sends SIGTERM to every process of a unit, and a worker that counted signals would take the one that
is passed on for a second.

Its ops socket has a name in Linux's abstract namespace and no file, so that nothing is left behind
when the supervisor is killed, and none has to be writable. Such a name has no permissions: whoever
is on the machine can connect, as to the ops port on loopback. So the pages want a token.
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
    "RENEW",
    "STOP",
    "CannotStart",
    "Child",
    "NoResponse",
    "OpenChild",
    "RequestNotSent",
    "WorkerResponse",
    "open_child",
]

# What a worker is told; the end of its input tells it that the supervisor is gone. One byte each:
# two of them cannot be torn apart.
DRAIN: Final = b"d"
STOP: Final = b"s"
RENEW: Final = b"r"

# For a last close frame to every client, and Python's end.
_STOP_SECONDS: Final = 5.0

# What the system says when it is this process, or the machine, that has not enough for a question.
_OWN_LIMITS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class CannotStart(Exception):
    """The system rejects another process; the message says why."""


class NoResponse(Exception):
    """A worker's ops socket cannot be asked, or broke off, or the page failed there."""


class RequestNotSent(NoResponse):
    """This process cannot ask, for want of descriptors or memory: it says nothing of the worker."""


@attrs.frozen
class WorkerResponse:
    """What a worker answered: HTTP status and body."""

    status: int
    text: str


class Child(Protocol):
    """A running worker."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    async def ask(self, path: str, body: bytes | None = None) -> WorkerResponse:
        """Get one of its ops pages, or post `body`; waits without a bound.

        Raises NoResponse, and RequestNotSent where that is not the worker's doing.
        """
        ...

    async def tell(self, what: bytes) -> None:
        """Tell it to DRAIN, to STOP, or to RENEW its certificate; nothing where it has ended."""
        ...

    async def wait(self) -> int:
        """Wait for its end; returns its exit status, -N after signal N."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


# Starts the worker with this number, or raises CannotStart; at the end of the block it has ended.
OpenChild = Callable[[int], AbstractAsyncContextManager[Child]]


class _Process:
    def __init__(
        self, process: trio.Process, orders: trio.abc.SendStream, client: httpx.AsyncClient
    ) -> None:
        self._process = process
        self._orders = orders
        self._client = client

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, path: str, body: bytes | None = None) -> WorkerResponse:
        method = "GET" if body is None else "POST"
        try:
            response = await self._client.request(method, path, content=body)
        except httpx.TransportError as error:
            raise (RequestNotSent if _is_own_limit(error) else NoResponse) from error
        if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
            # The worker's log has the traceback.
            raise NoResponse
        return WorkerResponse(response.status_code, response.text)

    async def tell(self, what: bytes) -> None:
        with suppress(trio.BrokenResourceError):
            await self._orders.send_all(what)

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
    """Run `command --number N --ops-fd FD` until it ends; at the end of the block it is stopped.

    Its ops socket listens already when the process starts, so whoever asks is answered as soon as
    there is an answer. `ops_token`: what its pages want. Raises CannotStart.
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
            # Ctrl-C in a terminal is for the supervisor to pass on.
            process_group=0,
        )


def _client(name: str, ops_token: Secret | None) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(
        uds=name,
        # The ops port serves one request per connection.
        limits=httpx.Limits(max_keepalive_connections=0),
        # There is no TLS; otherwise the certificates of authorities would be read for each worker.
        verify=False,
    )
    return httpx.AsyncClient(
        transport=transport,
        base_url="http://localhost",
        headers={"Authorization": f"Bearer {ops_token.reveal()}"} if ops_token else None,
        timeout=None,  # noqa: S113 -- whoever asks knows how long
    )


def _is_own_limit(error: BaseException) -> bool:
    """Whether an error of the client comes of a limit of this process or the machine."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno in _OWN_LIMITS
        # httpcore takes the cause away again; the context stays.
        cause = cause.__cause__ or cause.__context__
    return False


async def _end(child: _Process) -> None:
    """Let it stop at once in good order, or kill it."""
    with trio.move_on_after(_STOP_SECONDS):
        await child.tell(STOP)
        await child.wait()
        return
    child.kill()
    await child.wait()
