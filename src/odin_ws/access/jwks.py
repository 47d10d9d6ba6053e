"""A JSON Web Key Set that changes: read again from time to time, and for a key nobody knows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
import trio

from odin_ws.access.keys import BadKey, KeySet, key_set
from odin_ws.web import Unreachable, WebAddress

__all__ = ["ChangingKeys", "fetch_keys", "read_keys"]

log = structlog.get_logger("odin_ws.access")

# Between two readings at least so long, whoever asks: a caller may put any key's id in a token.
_FLOOR_SECONDS: Final = 10.0

# Who waits to come in waits for this.
_FETCH_SECONDS: Final = 5.0

# A key has about half a kilobyte, a set a handful of them.
_MAX_BYTES: Final = 128 << 10

# Instances that were started together do not ask together for ever.
_JITTER: Final = (0.9, 1.1)

Fetch = Callable[[], Awaitable[bytes]]


class ChangingKeys:
    """The keys there are now: `current`, None before they were read for the first time.

    Where they cannot be read the old ones stay. `results` counts the readings.
    """

    def __init__(self, fetch: Fetch, interval: float, current: KeySet | None = None) -> None:
        self.current = current
        self.results: Counter[str] = Counter({"read": 0, "failed": 0})
        self._fetch = fetch
        self._interval = interval
        self._failing = False
        self._reading = False
        self._next_allowed = -float("inf")
        self._wanted = trio.Event()
        self._done = trio.Event()

    async def run(self) -> None:
        """Read them from time to time, and when somebody wants them anew."""
        while True:
            await self._read()
            retry = self._failing or self.current is None
            pause = _FLOOR_SECONDS if retry else self._interval
            with trio.move_on_after(pause * random.uniform(*_JITTER)):  # noqa: S311 -- no secret
                await self._wanted.wait()

    async def renew(self) -> None:
        """Wait until they were read again; not at all where that was only just done."""
        if self.want():
            await self._done.wait()

    def want(self) -> bool:
        """Have them read again soon; False where that was only just done."""
        if not self._reading and trio.current_time() < self._next_allowed:
            return False
        self._wanted.set()
        return True

    async def _read(self) -> None:
        self._reading = True
        self._wanted = trio.Event()
        self._next_allowed = trio.current_time() + _FLOOR_SECONDS
        try:
            self._replace(key_set(await self._fetch()))
        except (BadKey, Unreachable) as error:
            self._fail(str(error))
        finally:
            self._reading = False
        self._done.set()
        self._done = trio.Event()

    def _replace(self, keys: KeySet) -> None:
        self.results["read"] += 1
        before = set() if self.current is None else {key.id for key in self.current.keys}
        self.current = keys
        after = {key.id for key in keys.keys}
        if self._failing or before != after:
            log.info("token keys read", keys=len(keys.keys))
        self._failing = False

    def _fail(self, reason: str) -> None:
        self.results["failed"] += 1
        if not self._failing:
            kept = 0 if self.current is None else len(self.current.keys)
            log.error("token keys cannot be read", reason=reason, kept=kept)
        self._failing = True


def read_keys(path: Path) -> bytes:
    """The set in a file. Raises Unreachable."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise Unreachable(str(error.strerror)) from error
    return _bounded(text)


def fetch_keys(url: str) -> Fetch:
    """A function that fetches the set from a URL, and raises Unreachable."""
    address = WebAddress(url, seconds=_FETCH_SECONDS, most=_MAX_BYTES)

    async def fetch() -> bytes:
        return (await address.get()).content()

    return fetch


def _bounded(text: bytes) -> bytes:
    if len(text) > _MAX_BYTES:
        raise Unreachable(f"more than {_MAX_BYTES} bytes")
    return text
