"""A client under test that is a separate program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from subprocess import DEVNULL, PIPE
from typing import Any

import trio

from odin_ws.testing.conformance.cases import Delivery
from odin_ws.testing.conformance.player import Requests

__all__ = ["run_program"]


async def run_program(  # noqa: PLR0913 -- those of Run, and the program's
    command: Sequence[str],
    url: str,
    subscription: Mapping[str, Any],
    deliver: Callable[[Delivery], None],
    requests: Requests,
    *,
    obeys: bool = False,
) -> None:
    """Run `command` with the URL and the subscription until it exits.

    Each line of its standard output that is a JSON object with `channel` and `pos` is a delivered
    message. If the program `obeys`, each line of its standard input is a request.

    Raises:
        OSError: the program cannot be started.
    """
    process = await trio.lowlevel.open_process(
        [*command, url, json.dumps(subscription)], stdin=PIPE if obeys else DEVNULL, stdout=PIPE
    )
    try:
        async with trio.open_nursery() as nursery:
            if process.stdin is not None:
                nursery.start_soon(_write, process.stdin, requests)
            await _read(process, deliver)
            nursery.cancel_scope.cancel()
        await process.wait()
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):  # a killed process exits at once
            await process.wait()


async def _read(process: trio.Process, deliver: Callable[[Delivery], None]) -> None:
    output, rest = process.stdout, b""
    assert output is not None
    async with output:
        async for some in output:
            *lines, rest = (rest + some).split(b"\n")
            for line in lines:
                if (delivery := _delivery(line)) is not None:
                    deliver(delivery)


async def _write(standard_input: trio.abc.SendStream, requests: Requests) -> None:
    async with standard_input:
        async for request in requests:
            with suppress(trio.BrokenResourceError):  # the next step fails if the client has ended
                await standard_input.send_all(json.dumps(request).encode() + b"\n")


def _delivery(line: bytes) -> Delivery | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not {"channel", "pos"} <= fields.keys():
        return None
    return Delivery(str(fields["channel"]), str(fields["pos"]))
