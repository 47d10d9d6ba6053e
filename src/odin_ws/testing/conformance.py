"""Checks a client of the wire protocol against transcripts: docs/protocol.md, Conformance.

    python -m odin_ws.testing.conformance COMMAND …

A scripted server plays each case of `conformance.jsonl`. For each it runs COMMAND with two more
arguments, the URL to connect to and the subscription as JSON, and compares what the client sends.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import attrs
import trio
import trio_websocket

from odin_ws.testing.ports import LOOPBACK

__all__ = ["Case", "Deviation", "Player", "main", "play_case", "read_cases"]

_TRANSCRIPTS: Final = Path(__file__).with_name("conformance.jsonl")

# How long a client may take for its next command: more than the back-off after a few attempts.
_STEP_SECONDS: Final = 15.0

_CUT: Final = "cut"

# Fields that are compared whole; of others what the transcript names.
_WHOLE: Final = ("positions", "ids")

Run = Callable[[str, Mapping[str, Any]], Awaitable[None]]


class Deviation(Exception):
    """The client did not do what the transcript says."""


@attrs.frozen
class Case:
    """One transcript. `steps`: `client`, what it has to send; `server`, what it is sent; `end`."""

    name: str
    about: str
    subscription: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]


def read_cases() -> list[Case]:
    """The transcripts, in the order of the file."""
    cases: list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = []
    for line in _TRANSCRIPTS.read_text("utf-8").splitlines():
        item = json.loads(line)
        if "case" in item:
            cases.append((item, []))
        else:
            cases[-1][1].append(item)
    return [Case(head["case"], head["about"], head["subscription"], steps) for head, steps in cases]


def difference(expected: object, got: object, where: str = "the command") -> str | None:
    """What a client's command lacks; None if nothing. In a transcript null is "no such field"."""
    if not isinstance(expected, Mapping):
        return None if got == expected else f"{where} is {got!r}, not {expected!r}"
    if not isinstance(got, Mapping):
        return f"{where} is {got!r}, no object"
    for field, value in expected.items():
        inner = f"{where}.{field}"
        if value is None:
            found = f"{inner} is not expected" if field in got else None
        elif field in _WHOLE:
            found = (
                None if got.get(field) == value else f"{inner} is {got.get(field)!r}, not {value!r}"
            )
        else:
            found = difference(value, got.get(field), inner)
        if found is not None:
            return found
    return None


class Player:
    """Plays a case to the connections that come one after the other."""

    def __init__(self, case: Case, listener: trio.SocketListener) -> None:
        self._case = case
        self._listener = listener
        self.url = f"ws://{LOOPBACK}:{listener.socket.getsockname()[1]}/ws"
        self._command_id: object = None

    async def play(self) -> None:
        """Until the transcript has ended. Raises Deviation."""
        async with trio.open_nursery() as nursery:
            steps = list(self._case.steps)
            while steps:
                stream = await self._accept()
                try:
                    websocket = await _upgrade(stream, nursery)
                    steps = await self._visit(websocket, stream, steps)
                finally:
                    await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()

    async def _accept(self) -> trio.SocketStream:
        with trio.move_on_after(_STEP_SECONDS):
            return await self._listener.accept()
        raise Deviation(f"no connection within {_STEP_SECONDS:g} s")

    async def _visit(
        self,
        websocket: trio_websocket.WebSocketConnection,
        stream: trio.SocketStream,
        steps: Sequence[Mapping[str, Any]],
    ) -> list[Mapping[str, Any]]:
        """Play to one connection; returns the steps that are left for the next."""
        for number, step in enumerate(steps):
            if "client" in step:
                command = await self._command(websocket)
                if command is None and step.get("anew"):
                    return list(steps[number:])
                if command is None:
                    raise Deviation(f"step {number + 1}: the client has closed the connection")
                found = difference(step["client"], command)
                if found is not None:
                    raise Deviation(found)
                self._command_id = command.get("id")
            elif "server" in step:
                answer = dict(step["server"])
                # Zero stands for the command's own.
                if answer.pop("id", None) == 0 and self._command_id is not None:
                    answer["id"] = self._command_id
                await self._send(websocket, answer)
            elif step["end"] == _CUT:
                # What was sent is to be read before the end.
                await _drained(websocket)
                await trio.aclose_forcefully(stream)
                return list(steps[number + 1 :])
            else:
                await _drained(websocket)
                with trio.move_on_after(_STEP_SECONDS):
                    await websocket.aclose(*step["end"])
                return list(steps[number + 1 :])
        return []

    async def _send(
        self, websocket: trio_websocket.WebSocketConnection, answer: Mapping[str, Any]
    ) -> None:
        try:
            await websocket.send_message(json.dumps(answer))
        except trio_websocket.ConnectionClosed:
            raise Deviation(f"the client left before {answer['type']}") from None

    async def _command(
        self, websocket: trio_websocket.WebSocketConnection
    ) -> dict[str, Any] | None:
        """The next command that is no heartbeat; None if the client leaves instead."""
        with trio.move_on_after(_STEP_SECONDS):
            while True:
                try:
                    command = json.loads(await websocket.get_message())
                except trio_websocket.ConnectionClosed:
                    return None
                except ValueError as error:
                    raise Deviation(f"the command is not JSON: {error}") from None
                if not isinstance(command, dict):
                    raise Deviation(f"the command is {command!r}, no object")
                if command.get("type") != "heartbeat":
                    return command
                await self._send(websocket, {"type": "pong", "ts": 0})
        raise Deviation(f"no command within {_STEP_SECONDS:g} s")


async def _upgrade(
    stream: trio.SocketStream, nursery: trio.Nursery
) -> trio_websocket.WebSocketConnection:
    with trio.move_on_after(_STEP_SECONDS):
        request = await trio_websocket.wrap_server_stream(nursery, stream)
        ours = "odin.v1" if "odin.v1" in request.proposed_subprotocols else None
        return await request.accept(subprotocol=ours)
    raise Deviation(f"no WebSocket handshake within {_STEP_SECONDS:g} s")


async def _drained(websocket: trio_websocket.WebSocketConnection) -> None:
    """Wait until the client has answered a ping: it has read all before it."""
    with trio.move_on_after(_STEP_SECONDS):
        try:
            await websocket.ping()
        except trio_websocket.ConnectionClosed:
            return


@asynccontextmanager
async def _listening(case: Case) -> AsyncIterator[Player]:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with listener:
        yield Player(case, listener)


async def play_case(case: Case, run: Run) -> str | None:
    """Play a case to the client that `run` runs, given a URL and the subscription.

    Returns what the client did wrong, None if nothing.
    """
    wrong: str | None = None

    async def play(player: Player, scope: trio.CancelScope) -> None:
        nonlocal wrong
        try:
            await player.play()
        except* Deviation as group:
            wrong = str(_first(group))
        scope.cancel()

    async with _listening(case) as player, trio.open_nursery() as nursery:
        nursery.start_soon(play, player, nursery.cancel_scope)
        await run(player.url, case.subscription)
        # A client that has ended too early is found by its next step.
        await trio.sleep_forever()
    return wrong


def _first(group: BaseExceptionGroup[Deviation]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run_command(command: Sequence[str], url: str, subscription: Mapping[str, Any]) -> None:
    await trio.run_process([*command, url, json.dumps(subscription)], stdin=DEVNULL, check=False)


async def _check(command: Sequence[str], names: Iterable[str]) -> bool:
    wanted = set(names)
    cases = [case for case in read_cases() if not wanted or case.name in wanted]
    failures = 0
    for case in cases:
        wrong = await play_case(case, partial(_run_command, command))
        failures += wrong is not None
        sys.stdout.write(f"ok      {case.name}\n" if wrong is None else f"FAILED  {case.name}\n")
        if wrong is not None:
            sys.stdout.write(f"        {case.about}\n        {wrong}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(cases) - failures} of {len(cases)} cases\n")
    return not failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a client; 0 if it does what all transcripts say, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m odin_ws.testing.conformance",
        description="Checks a client of the wire protocol against transcripts.",
    )
    parser.add_argument("--case", action="append", default=[], help="only this case; repeatable")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="the client; it gets a URL and a subscription"
    )
    options = parser.parse_args(arguments)
    if not options.command:
        parser.error("the client's command is missing")
    return 0 if trio.run(_check, options.command, options.case) else 1


if __name__ == "__main__":
    sys.exit(main())
