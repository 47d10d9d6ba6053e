"""The console's data as Server-Sent Events (docs/console.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Self

import attrs
import orjson
import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from odin_ws.auth.origins import Origins
from odin_ws.ops.console.report import PARTS
from odin_ws.ops.page_cache import PageCache
from odin_ws.settings import Settings

__all__ = ["BuildReport", "ConsoleEvents", "SubscribersPort"]

# Builds a report of parts, with the samples after a time, for one worker or for all (None).
BuildReport = Callable[[Collection[str], int, int | None], Awaitable[dict[str, Any]]]

_TICK_SECONDS: Final = 1.0

# Interval of tables, for which all connections are read: 15 ms for 12,000, in slices.
_TABLES_SECONDS: Final = 2.0

# Maximum length of an origin: a scheme, a host of 253 characters and a port.
_MAX_ORIGIN: Final = 300

# The largest accepted time: exact in every JSON parser, and beyond every clock.
_MAX_TIME: Final = 1 << 53


class _InvalidQuery(ValueError):
    """The query string is invalid; the message names the parameter."""


@attrs.frozen
class SubscribersPort:
    """The port for subscribers, to which the console's page may connect."""

    host: str = ""
    """The host of the port; empty for every interface."""
    origins: Origins = attrs.field(factory=lambda: Origins(["*"]))
    """Origins of web pages that may connect."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the port as configured by the settings."""
        return cls(settings.ws_addr.host, Origins(settings.ws_allowed_origins))


@attrs.frozen
class _Query:
    parts: frozenset[str]
    after: int
    worker: int | None
    origin: str | None


class ConsoleEvents:
    """The stream and its parts, shared by all open pages.

    Args:
        build: builds a report.
        workers: the number of workers; 0 for a single process.
        seconds: seconds for which a report is cached.
        origins: origins of pages that may connect to the subscribers' port.
    """

    def __init__(self, build: BuildReport, workers: int, seconds: float, origins: Origins) -> None:
        self._build = build
        self._workers = workers
        self._origins = origins
        self._seconds = {"state": seconds, "tables": seconds and _TABLES_SECONDS, "past": seconds}
        self._shared: dict[tuple[str, int | None], PageCache[Any]] = {}

    async def report(self, request: Request) -> Response:
        """Respond with the requested parts as JSON, once."""
        try:
            query = self._read(request.query_params)
        except _InvalidQuery as problem:
            return PlainTextResponse(f"{problem}\n", HTTPStatus.BAD_REQUEST)
        report = await self._report(query.parts, query)
        return Response(_json(report), media_type="application/json")

    async def stream(self, request: Request) -> Response:
        """Respond with the events of `_events`."""
        try:
            query = self._read(request.query_params)
        except _InvalidQuery as problem:
            return PlainTextResponse(f"{problem}\n", HTTPStatus.BAD_REQUEST)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(query), headers=headers, media_type="text/event-stream"
        )

    async def _events(self, query: _Query) -> AsyncIterator[bytes]:
        """Yield all parts, then changes: a sample and the state each second."""
        began = trio.current_time()
        tables_due = began + _TABLES_SECONDS
        report = await self._report(PARTS, query)
        while True:
            samples = report.get("samples", {"t": []})
            if samples["t"]:
                query = attrs.evolve(query, after=samples["t"][-1])
            for name in PARTS:
                if name in report and (name != "samples" or samples["t"]):
                    yield b"event: %b\ndata: %b\n\n" % (name.encode(), _json(report[name]))
            await trio.sleep(_TICK_SECONDS)
            parts = ["state", "samples"]
            if (now := trio.current_time()) >= tables_due:
                parts.append("tables")
                tables_due = now + _TABLES_SECONDS
            report = await self._report(parts, query)

    async def _report(self, parts: Collection[str], query: _Query) -> dict[str, Any]:
        """Return a report with `parts`; expensive parts come from a cached report."""
        worker = query.worker
        report: dict[str, Any] = {}
        if "setup" in parts:
            report |= await self._build(["setup"], 0, worker)
            report["setup"] |= {"worker": worker, "workers": self._workers}
            allowed = report["setup"]["subscribers"]
            allowed["origin_allowed"] = self._origins.allows(query.origin)
        for name in ("state", "tables"):
            if name in parts:
                report |= await self._from_cache(name, [name], worker)
        if "samples" in parts:
            report |= await (
                self._build(["samples"], query.after, worker)
                if query.after
                else self._from_cache("past", ["samples"], worker)
            )
        return report

    async def _from_cache(
        self, name: str, parts: Collection[str], worker: int | None
    ) -> dict[str, Any]:
        key = name, worker
        if key not in self._shared:
            build = partial(self._build, parts, 0, worker)
            self._shared[key] = PageCache(build, self._seconds[name])
        report: dict[str, Any] = await self._shared[key].get()
        return report

    def _read(self, query: Mapping[str, str]) -> _Query:
        """Return the parsed query. Raises _InvalidQuery."""
        if unknown := query.keys() - {"after", "origin", "parts", "worker"}:
            names = ", ".join(sorted(unknown))
            text = f"unknown parameter {names}; allowed: after, origin, parts, worker"
            raise _InvalidQuery(text)
        parts = frozenset(query.get("parts", ",".join(PARTS)).split(","))
        if unknown_parts := parts - set(PARTS):
            text = f"parts={','.join(sorted(unknown_parts))}: allowed are {', '.join(PARTS)}"
            raise _InvalidQuery(text)
        origin = query.get("origin")
        if origin is not None and len(origin) > _MAX_ORIGIN:
            raise _InvalidQuery(f"origin: at most {_MAX_ORIGIN} characters")
        worker = None
        if "worker" in query:
            if not self._workers:
                raise _InvalidQuery("worker: this server has no workers (WS_WORKERS=1)")
            worker = _integer(query, "worker", 1, self._workers)
        return _Query(parts, _integer(query, "after", 0, _MAX_TIME), worker, origin)


def _json(report: Any) -> bytes:
    """Return a report as JSON; its keys may be members of enumerations with text values."""
    return orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS)


def _integer(query: Mapping[str, str], name: str, least: int, most: int) -> int:
    """Return a parameter as an integer; `least` if it is missing. Raises _InvalidQuery."""
    text = query.get(name, str(least))
    # Only ASCII digits: Python also accepts digits of other scripts.
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not (is_number and least <= int(text) <= most):
        raise _InvalidQuery(f"{name}={text[:20]}: must be an integer, {least} to {most}")
    return int(text)
