"""A network namespace of this run, with packets lost and delayed on the way to it.

The module creates all devices that it uses, and removes them at the end.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

__all__ = ["Namespace", "NamespaceUnavailable", "open_namespace"]

# Two addresses of the range reserved for network tests by RFC 2544.
NEAR: Final = "198.18.73.1"
FAR: Final = "198.18.73.2"

TOOL_SECONDS: Final = 10

PLACES: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class NamespaceUnavailable(Exception):
    """This machine cannot create a namespace or lose packets; the message says why."""


@attrs.frozen
class Namespace:
    """A namespace joined to the default one by two interfaces; `near` is the outer address."""

    name: str
    ip: str
    tc: str
    interface: str
    near: str = NEAR

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs a command inside of it."""
        return [self.ip, "netns", "exec", self.name, *command]

    async def impair(self, loss_percent: float, delay_ms: float) -> None:
        """Lose and delay packets, in both directions."""
        rule = ("root", "netem", "loss", f"{loss_percent}%", "delay", f"{delay_ms}ms")
        await _tool(self.tc, "qdisc", "replace", "dev", self.interface, *rule)
        inside = (self.tc, "qdisc", "replace", "dev", self.interface, *rule)
        await _tool(*self.inside(inside))

    async def repair(self) -> None:
        """Stop losing and delaying packets."""
        command = (self.tc, "qdisc", "del", "dev", self.interface, "root")
        await _tool(*command)
        await _tool(*self.inside(command))


@asynccontextmanager
async def open_namespace() -> AsyncIterator[Namespace]:
    """Create a namespace for the length of the block.

    Raises:
        NamespaceUnavailable: iproute2, permissions or the kernel's netem are missing.
    """
    ip, tc = (shutil.which(tool, path=PLACES) for tool in ("ip", "tc"))
    if ip is None or tc is None:
        raise NamespaceUnavailable("no iproute2 (`ip` and `tc`) on this machine")
    # The name of both interfaces, at most 15 characters.
    name = f"odin{os.getpid()}"
    space = Namespace(name, ip, tc, name)
    await _tool(ip, "netns", "add", name)
    try:
        await _tool(ip, "link", "add", name, "type", "veth", "peer", "name", name, "netns", name)
        await _tool(ip, "addr", "add", f"{NEAR}/30", "dev", name)
        await _tool(ip, "link", "set", name, "up")
        await _tool(*space.inside((ip, "addr", "add", f"{FAR}/30", "dev", name)))
        await _tool(*space.inside((ip, "link", "set", name, "up")))
        await space.impair(0, 0)
        await space.repair()
        yield space
    finally:
        # Deleting the namespace also removes the pair of interfaces.
        with trio.CancelScope(shield=True):  # bounded by TOOL_SECONDS
            await _tool(ip, "netns", "del", name)


async def _tool(*command: str) -> None:
    with trio.fail_after(TOOL_SECONDS):
        done = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
    if done.returncode:
        error = " ".join(done.stderr.decode(errors="replace").split())
        shown = " ".join(os.path.basename(word) for word in command)  # noqa: PTH119 -- words
        raise NamespaceUnavailable(f"`{shown}`: {error}")
