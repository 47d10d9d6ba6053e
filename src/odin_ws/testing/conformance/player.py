"""A server that plays a case over the connections of one client and checks its commands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import zip_longest
from typing import Any, Final

import attrs
import trio
import trio_websocket

from odin_ws.testing.conformance.cases import Case, Delivery, difference
from odin_ws.testing.ports import LOOPBACK

__all__ = ["Outcome", "Requests", "Result", "Run", "play_case"]

# Timeout of a client's next command: longer than the back-off after a few attempts.
STEP_SECONDS: Final = 15.0

_CUT: Final = "cut"

# As the server rejects a handshake.
_REJECTION: Final = b"not now\n"
_REJECTION_HEADERS: Final = [
    (b"Content-Type", b"text/plain; charset=us-ascii"),
    (b"Content-Length", str(len(_REJECTION)).encode()),
    (b"Connection", b"close"),
]

Requests = trio.MemoryReceiveChannel[Mapping[str, Any]]
"""The application's requests to the client: `{"subscribe": {…}}` or `{"unsubscribe": {…}}`."""

Run = Callable[[str, Mapping[str, Any], Callable[[Delivery], None], Requests], Awaitable[None]]
"""Runs a client with the URL, the subscription, a callback for each delivered message, and the
application's requests."""


class Result(StrEnum):
    """The result of a case."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.frozen
class Outcome:
    """The result of a case."""

    case: Case
    result: Result
    why: str = ""
    """The reason of a failed or skipped case; empty if it is ok."""


class _Deviation(Exception):
    """The client deviated from the case."""


class _NotPlayed(Exception):
    """The case does not apply to this client."""


class _Player:
    """Plays a case to consecutive connections of one client."""

    def __init__(self, case: Case, listener: trio.SocketListener, step_seconds: float) -> None:
        self._case = case
        # Room for all steps of a case: sending never waits for a client that does not read.
        self._send_request, self.requests = trio.open_memory_channel[Mapping[str, Any]](
            len(case.steps)
        )
        self._listener = listener
        self._step_seconds = step_seconds
        self.url = f"ws://{LOOPBACK}:{listener.socket.getsockname()[1]}/ws"
        self._command_id: object = None

    async def play(self) -> None:
        """Play the case to its end.

        Raises:
            _Deviation: the client deviated from the case.
            _NotPlayed: the case does not apply to this client.
        """
        async with trio.open_nursery() as nursery:
            steps = list(self._case.steps)
            while steps:
                stream = await self._accept()
                try:
                    steps = await self._serve(nursery, stream, steps)
                finally:
                    await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

    async def _accept(self) -> trio.SocketStream:
        with trio.move_on_after(self._step_seconds):
            return await self._listener.accept()
        raise _Deviation(f"the client did not connect within {self._step_seconds:g} s")

    async def _serve(
        self,
        nursery: trio.Nursery,
        stream: trio.SocketStream,
        steps: Sequence[Mapping[str, Any]],
    ) -> list[Mapping[str, Any]]:
        """Play steps to one connection; returns the remaining steps for the next connection."""
        with trio.move_on_after(self._step_seconds):
            request = await trio_websocket.wrap_server_stream(nursery, stream)
            if "reject" in steps[0]:
                await request.reject(
                    steps[0]["reject"], extra_headers=_REJECTION_HEADERS, body=_REJECTION
                )
                return list(steps[1:])
            ours = "odin.v1" if "odin.v1" in request.proposed_subprotocols else None
            websocket = await request.accept(subprotocol=ours)
            return await self._converse(websocket, stream, steps)
        raise _Deviation(f"the client sent no WebSocket handshake within {self._step_seconds:g} s")

    async def _converse(
        self,
        websocket: trio_websocket.WebSocketConnection,
        stream: trio.SocketStream,
        steps: Sequence[Mapping[str, Any]],
    ) -> list[Mapping[str, Any]]:
        for number, step in enumerate(steps):
            if "client" in step:
                command = await self._command(websocket)
                if command is None and step.get("anew"):
                    return list(steps[number:])
                self._compare(step, command)
            elif "server" in step:
                await self._send_item(websocket, step["server"])
            elif "application" in step:
                self._send_request.send_nowait(step["application"])
            else:
                await self._end(websocket, stream, step["end"])
                return list(steps[number + 1 :])
        return []

    def _compare(self, step: Mapping[str, Any], command: Mapping[str, Any] | None) -> None:
        if command is None:
            raise _Deviation(
                f"the client closed the connection instead of {step['client']['type']}"
            )
        data = command.get("data")
        if self._case.batches and isinstance(data, Mapping) and data.get("frames") != "batch":
            raise _NotPlayed("the client does not ask for batches")
        found = difference(step["client"], command)
        if found is not None:
            raise _Deviation(found)
        self._command_id = command.get("id")

    async def _send_item(
        self, websocket: trio_websocket.WebSocketConnection, item: Mapping[str, Any]
    ) -> None:
        fields = dict(item)
        # Zero in a case stands for the id of the command.
        if fields.pop("id", None) == 0 and self._command_id is not None:
            fields["id"] = self._command_id
        await self._send(websocket, fields)

    async def _end(
        self,
        websocket: trio_websocket.WebSocketConnection,
        stream: trio.SocketStream,
        end: str | Sequence[Any],
    ) -> None:
        # The client's pong shows that it has read all items before the ping.
        with trio.move_on_after(self._step_seconds):
            try:
                await websocket.ping()
            except trio_websocket.ConnectionClosed:
                raise _Deviation("the client closed the connection before the server did") from None
            if end == _CUT:
                await trio.aclose_forcefully(stream)
            else:
                await websocket.aclose(*end)

    async def _send(
        self, websocket: trio_websocket.WebSocketConnection, item: Mapping[str, Any]
    ) -> None:
        try:
            await websocket.send_message(json.dumps(item))
        except trio_websocket.ConnectionClosed:
            raise _Deviation(f"the client closed the connection before {item['type']}") from None

    async def _command(
        self, websocket: trio_websocket.WebSocketConnection
    ) -> dict[str, Any] | None:
        """Return the next command except heartbeats; None if the client closes instead."""
        with trio.move_on_after(self._step_seconds):
            while True:
                try:
                    command = json.loads(await websocket.get_message())
                except trio_websocket.ConnectionClosed:
                    return None
                except ValueError as error:
                    raise _Deviation(f"the command is not JSON: {error}") from None
                if not isinstance(command, dict):
                    raise _Deviation(f"the command is {command!r}, not an object")
                if command.get("type") != "heartbeat":
                    return command
                await self._send(websocket, {"type": "pong", "ts": 0})
        raise _Deviation(f"the client sent no command within {self._step_seconds:g} s")


@asynccontextmanager
async def _listening(case: Case, step_seconds: float) -> AsyncIterator[_Player]:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with listener:
        yield _Player(case, listener, step_seconds)


async def play_case(
    case: Case, run: Run, *, deliveries: bool = True, step_seconds: float = STEP_SECONDS
) -> Outcome:
    """Play a case to the client that `run` runs; returns the outcome.

    Args:
        case: the case.
        run: runs the client, which may exit after the close 1000 of the case's end.
        deliveries: whether to compare the messages that the client delivers; then it must exit.
        step_seconds: timeout of each step, in seconds.
    """
    delivered: list[Delivery] = []
    outcome = Outcome(case, Result.OK)
    ended = trio.Event()

    async def play(player: _Player, scope: trio.CancelScope) -> None:
        nonlocal outcome
        try:
            await player.play()
        except* _Deviation as group:
            outcome = Outcome(case, Result.FAILED, str(_first(group)))
        except* _NotPlayed as group:
            outcome = Outcome(case, Result.SKIPPED, str(_first(group)))
        if deliveries and outcome.result is Result.OK:
            with trio.move_on_after(step_seconds):
                await ended.wait()
            if why := _compare_deliveries(case.deliveries(), delivered, ended=ended.is_set()):
                outcome = Outcome(case, Result.FAILED, why)
        scope.cancel()

    async with _listening(case, step_seconds) as player, trio.open_nursery() as nursery:
        nursery.start_soon(play, player, nursery.cancel_scope)
        await run(player.url, case.subscription, delivered.append, player.requests)
        ended.set()
        # The next step fails if the client has ended too early.
        await trio.sleep_forever()
    return outcome


def _compare_deliveries(
    expected: Sequence[Delivery], delivered: Sequence[Delivery], *, ended: bool
) -> str | None:
    for number, (right, got) in enumerate(zip_longest(expected, delivered), 1):
        if right is None:
            return f"the client delivered {got}, one message too many"
        if right != got:
            return f"message {number} that the client delivered is {got or 'missing'}, not {right}"
    return None if ended else "the client did not exit after close 1000"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    return next(_leaves(group))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
