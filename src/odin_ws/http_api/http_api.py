"""Plain HTTP requests: the resource of each, and the checks before it is served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from odin_ws.auth.grants import Grant, not_granted
from odin_ws.auth.origins import Origins
from odin_ws.handshake.request import (
    PATH,
    HandshakeRequest,
    HTTPRejection,
    HTTPResponse,
    bad_request,
    check_method,
    check_no_body,
)
from odin_ws.http_api.cors import cors_headers, preflight_response
from odin_ws.http_api.event_ids import EventFormats
from odin_ws.http_api.event_stream import EventFraming, first_retry
from odin_ws.http_api.rejections import EVENT_STREAM, rejection_for_page
from odin_ws.http_api.snapshot import SNAPSHOT_REJECTIONS, Snapshots
from odin_ws.http_api.subscription_query import EventQuery, read_event_query, read_snapshot_query
from odin_ws.protocol.command_parser import decode_steps
from odin_ws.protocol.commands import Resume, Subscribe
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.selection import Selection
from odin_ws.resume import ReplayContext
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.time_slice import TimeSlice

__all__ = ["HTTP_REJECTIONS", "HTTP_RESOURCES", "SNAPSHOT_PATH", "HttpApi"]

EVENTS_PATH: Final = "/sse"
SNAPSHOT_PATH: Final = "/snapshot"

# Resources for admitted clients and pages.
_DATA_PATHS: Final = frozenset({EVENTS_PATH, SNAPSHOT_PATH})

_PROBE_PATHS: Final = frozenset({"/", "/healthz"})

# Metric labels of requests that are served without a connection.
HTTP_RESOURCES: Final = ("preflight", "probe", "snapshot")

# The labels of rejections here; the metrics show each from the start.
HTTP_REJECTIONS: Final = ("forbidden", *SNAPSHOT_REJECTIONS)


class HttpApi:
    """Serves requests without a WebSocket upgrade.

    `requests`: how many were served without a connection, by resource.

    Args:
        context: the objects that replays share.
        origins: the web pages that may read responses.
        limits: limits of one client's subscriptions.
        is_ready: whether load balancers should send clients here.
        max_snapshot_bytes: limit of the messages of one snapshot.
        max_id_bytes: limit of an event id, which a client sends in a request header.
    """

    def __init__(  # noqa: PLR0913 -- its limits
        self,
        context: ReplayContext,
        origins: Origins,
        limits: SubscriptionLimits,
        *,
        is_ready: Callable[[], bool],
        max_snapshot_bytes: int,
        max_id_bytes: int,
    ) -> None:
        self._is_ready = is_ready
        self.requests: Counter[str] = Counter()
        self.snapshots = Snapshots(context, limits, max_snapshot_bytes)
        self._context = context
        self._hub = context.hub
        self._catalogue = context.hub.stream.catalogue
        self._origins = origins
        self._limits = limits
        self._max_id_bytes = max_id_bytes
        self._formats = EventFormats(context.hub)

    def respond(self, request: HandshakeRequest) -> bytes | None:
        """Return the response to a probe or a preflight; None for requests that need admission.

        Raises HTTPRejection.
        """
        path = request.path
        if path in _PROBE_PATHS:
            check_method(request, "GET", "HEAD")
            check_no_body(request)
            self.requests["probe"] += 1
            response = _probe_response(is_ready=self._is_ready())
            return response.encode(head=request.method == "HEAD")
        if path not in _DATA_PATHS:
            text = f"not found; the WebSocket is at {PATH}, Server-Sent Events are at {EVENTS_PATH}"
            raise HTTPRejection(HTTPStatus.NOT_FOUND, "not_found", text)
        check_method(request, "GET", "OPTIONS")
        check_no_body(request)
        if request.method == "GET":
            return None
        self.requests["preflight"] += 1
        return preflight_response(request, self._origins).encode()

    def is_read_by_pages(self, request: HandshakeRequest) -> bool:
        """Return whether pages of other origins may read the response to a request."""
        return request.path in _DATA_PATHS

    def rejection(self, request: HandshakeRequest, rejection: HTTPRejection) -> HTTPRejection:
        """Return a rejection in the form that web pages can read."""
        return rejection_for_page(request, rejection, self._origins)

    async def snapshot(self, request: HandshakeRequest, grant: Grant) -> bytes:
        """Return the response to a snapshot request. Raises HTTPRejection."""
        command = await self._command(read_snapshot_query(request), grant)
        assert isinstance(command, Subscribe)
        headers = [("Cache-Control", "no-store"), *cors_headers(request, self._origins)]
        response = await self.snapshots.make(command, grant, headers)
        self.requests["snapshot"] += 1
        return response.encode()

    # ---- streams of events

    async def read_subscription(
        self, request: HandshakeRequest, grant: Grant
    ) -> tuple[EventQuery, Subscribe | Resume]:
        """Read the subscription of a request for events. Raises HTTPRejection."""
        query = read_event_query(request, self._catalogue)
        command = await self._command(query.command, grant)
        self._check_id(command.selection, query)
        return query, command

    async def _command(self, text: str, grant: Grant) -> Subscribe | Resume:
        """Parse a command; at least one of its names must be granted. Raises HTTPRejection."""
        own = grant.max_subscriptions
        maximum = self._limits.patterns if own is None else min(own, self._limits.patterns)
        time_slice = TimeSlice(self._context.scans.wait_for_work_slice)
        try:
            command = await time_slice.run(decode_steps(text, self._catalogue, maximum))
        except CommandError as error:
            raise bad_request(str(error)) from error
        assert isinstance(command, Subscribe | Resume)
        _check_any(command.selection, grant)
        return command

    def _check_id(self, selection: Selection, query: EventQuery) -> None:
        """Check that an event id of these topics fits into a header. Raises HTTPRejection."""
        patterns = [
            pattern for name_patterns in selection.wanted.values() for pattern in name_patterns
        ]
        topics = self._catalogue.topics_of(patterns)
        _, event_ids = self._formats.live(topics, query.frames, query.start)
        if (size := len(event_ids.now())) > self._max_id_bytes:
            raise bad_request(
                f"the event ids of {len(topics)} topics would have {size} bytes, and "
                f"{self._max_id_bytes} are allowed: request fewer topics, or use {PATH}"
            )

    def framing(self, query: EventQuery) -> EventFraming:
        """Return the framing of an event stream with this query."""
        return EventFraming(self._formats, query.frames, query.start, snapshot=query.snapshot)

    def stream_head(self, request: HandshakeRequest) -> bytes:
        """Return the response head of an event stream, and the stream's first line."""
        fields = [
            ("Content-Type", EVENT_STREAM),
            # A proxy must not compress the stream: it would wait for more bytes.
            ("Cache-Control", "no-store, no-transform"),
            ("Connection", "close"),
            # Without this nginx buffers the response.
            ("X-Accel-Buffering", "no"),
            *cors_headers(request, self._origins),
        ]
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("ascii") + first_retry()


def _check_any(selection: Selection, grant: Grant) -> None:
    """Check that at least one name is valid and granted. Raises HTTPRejection."""
    if not selection.wanted:
        first = next(iter(selection.rejected), None)
        raise bad_request(
            "the query must have channels, topics, bundles or tokens"
            if first is None
            else f"{first.name}: {first.message}"
        )
    missing = [grant.missing(patterns) for patterns in selection.wanted.values()]
    if all(missing):
        raise HTTPRejection(HTTPStatus.FORBIDDEN, "forbidden", not_granted(missing[0]))


def _probe_response(*, is_ready: bool) -> HTTPResponse:
    """Return a probe response without details, because anyone can request it."""
    headers = [("Cache-Control", "no-store")]
    if is_ready:
        return HTTPResponse(HTTPStatus.OK, b"ok\n", headers=headers)
    return HTTPResponse(HTTPStatus.SERVICE_UNAVAILABLE, b"not ready\n", headers=headers)
