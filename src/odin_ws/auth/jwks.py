"""Fetches the JSON Web Key Set, refreshes it periodically and for unknown key ids."""

from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
import trio

from odin_ws.auth.keys import InvalidKey, KeySet, key_set
from odin_ws.http_client import Unreachable, WebAddress

__all__ = ["JwksCache", "fetch_keys", "read_keys"]

log = structlog.get_logger("odin_ws.auth")

# Minimum time between two fetches, whatever the reason: a client may put any key id into a token.
_FLOOR_SECONDS: Final = 10.0

# Limit of remembered unknown key ids; the oldest are dropped. An issuer has a handful; attackers
# with more ids get no more fetches than the minimum time allows.
_MAX_UNKNOWN: Final = 1024

# A key id is a name, a UUID or a thumbprint of 43 characters; longer ones cause no fetch.
_MAX_ID_LENGTH: Final = 256

# Timeout of a fetch, for which clients in the handshake wait.
_FETCH_SECONDS: Final = 5.0

# A key has about half a kilobyte, a set a handful of keys.
_MAX_BYTES: Final = 128 << 10

# Jitter: instances that were started together do not fetch together forever.
_JITTER: Final = (0.9, 1.1)

Fetch = Callable[[], Awaitable[bytes]]


class UnknownKeyIds:
    """Key ids that fetches did not find, each with the pause before the next fetch.

    Without this, a JWT whose key was removed or never existed would cause a fetch each time its
    client connects. The pause doubles from the minimum to `interval`, the time of regular fetches.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        # By key id: when it may cause a fetch again, and the pause that led to that time.
        self._ids: OrderedDict[str | None, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many ids are remembered."""
        return len(self._ids)

    def may_fetch(self, key_id: str | None, now: float) -> bool:
        """Return whether a key id may cause a fetch; remembers that it does."""
        if key_id is not None and len(key_id) > _MAX_ID_LENGTH:
            return False
        not_before, pause = self._ids.get(key_id, (now, 0.0))
        if now < not_before:
            return False
        pause = min(max(_FLOOR_SECONDS, 2 * pause), self._interval)
        self._ids[key_id] = now + pause, pause
        self._ids.move_to_end(key_id)
        if len(self._ids) > _MAX_UNKNOWN:
            self._ids.popitem(last=False)
        return True

    def forget(self) -> None:
        """Forget all ids: the issuer has other keys now."""
        self._ids.clear()


class JwksCache:
    """The current keys: `current`, None before the first fetch.

    If a fetch fails, the previous keys stay. `results` counts the fetches, `unknown` has the key
    ids that they did not find.
    """

    def __init__(self, fetch: Fetch, interval: float, current: KeySet | None = None) -> None:
        self.current = current
        self.unknown = UnknownKeyIds(interval)
        self.results: Counter[str] = Counter({"read": 0, "failed": 0})
        self._fetch = fetch
        self._interval = interval
        self._failing = False
        self._reading = False
        self._next_allowed = -math.inf
        self._wanted = trio.Event()
        self._done = trio.Event()

    async def run(self) -> None:
        """Fetch the keys periodically and on request."""
        while True:
            # The only minimum time: before each fetch, whatever the reason.
            await trio.sleep_until(self._next_allowed)
            await self._read()
            retry = self._failing or self.current is None
            pause = _FLOOR_SECONDS if retry else self._interval
            with trio.move_on_after(pause * random.uniform(*_JITTER)):  # noqa: S311 -- no secret
                await self._wanted.wait()

    async def refresh(self, key_id: str | None) -> None:
        """Wait for a fetch because of an unknown key id, if one is allowed."""
        if self.request_refresh(key_id):
            await self._done.wait()

    def request_refresh(self, key_id: str | None) -> bool:
        """Request a fetch because of an unknown key id; returns whether one will come.

        False if a fetch has just begun, or recently did not find this key.
        """
        if self._reading or self._wanted.is_set():
            return True
        now = trio.current_time()
        if now < self._next_allowed or not self.unknown.may_fetch(key_id, now):
            return False
        self._wanted.set()
        return True

    async def _read(self) -> None:
        self._reading = True
        self._next_allowed = trio.current_time() + _FLOOR_SECONDS
        try:
            self._replace(key_set(await self._fetch()))
        except (InvalidKey, Unreachable) as error:
            self._fail(str(error))
        finally:
            self._reading = False
        self._wanted = trio.Event()
        self._done.set()
        self._done = trio.Event()

    def _replace(self, keys: KeySet) -> None:
        self.results["read"] += 1
        before = set() if self.current is None else {key.id for key in self.current.keys}
        self.current = keys
        after = {key.id for key in keys.keys}
        if before != after:
            self.unknown.forget()
        if self._failing or before != after:
            log.info("JWKS loaded", keys=len(keys.keys))
        self._failing = False

    def _fail(self, reason: str) -> None:
        self.results["failed"] += 1
        if not self._failing:
            kept = 0 if self.current is None else len(self.current.keys)
            log.error("JWKS unavailable", reason=reason, kept=kept)
        self._failing = True


def read_keys(path: Path) -> bytes:
    """Read a key set from a file. Raises Unreachable."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise Unreachable(str(error.strerror)) from error
    return _bounded(text)


def fetch_keys(url: str) -> Fetch:
    """Return a function that fetches the key set from a URL and raises Unreachable."""
    address = WebAddress(url, seconds=_FETCH_SECONDS, maximum=_MAX_BYTES)

    async def fetch() -> bytes:
        return (await address.get()).content()

    return fetch


def _bounded(text: bytes) -> bytes:
    if len(text) > _MAX_BYTES:
        raise Unreachable(f"more than {_MAX_BYTES} bytes")
    return text
