"""GET /snapshot: the last message of each channel as one JSON text, with positions to resume."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from odin_ws.auth.grants import Grant, not_granted
from odin_ws.handshake.request import HTTPRejection, HTTPResponse
from odin_ws.handshake.retry_after import retry_after
from odin_ws.protocol.commands import Subscribe
from odin_ws.protocol.envelope import ChannelMessage, Dialect
from odin_ws.protocol.errors import ErrorCode
from odin_ws.protocol.event_id import EventId
from odin_ws.protocol.json_text import dump_json
from odin_ws.resume import ReplayContext
from odin_ws.session.subscription_admission import SubscriptionLimits
from odin_ws.steps import STEP_MESSAGES, Steps
from odin_ws.time_slice import TimeSlice

__all__ = ["SNAPSHOT_REJECTIONS", "Snapshots"]

# Limit of snapshots that are built or sent at a time. Each uses the event loop for up to 20 ms in
# time slices, and memory until its client has read it.
_AT_ONCE: Final = 16

# The labels of rejections here.
SNAPSHOT_REJECTIONS: Final = ("max_snapshots", "not_ready", "snapshot_memory", "snapshot_too_large")


class Snapshots:
    """Builds the responses to snapshot requests.

    Args:
        context: the hub, and the turns of clients' work.
        limits: limits of one client's subscriptions, with the memory budget.
        max_bytes: limit of the messages of one snapshot.
    """

    def __init__(self, context: ReplayContext, limits: SubscriptionLimits, max_bytes: int) -> None:
        self._context = context
        self._hub = context.hub
        self._limits = limits
        self._max_bytes = max_bytes
        self._active = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a snapshot during the block. Raises HTTPRejection."""
        if self._active >= _AT_ONCE:
            text = f"the server sends {_AT_ONCE} snapshots already, the most at once; retry"
            raise _not_now("max_snapshots", text)
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def make(
        self, command: Subscribe, grant: Grant, headers: Sequence[tuple[str, str]]
    ) -> HTTPResponse:
        """Return the response with the last message of each channel that a subscribe names.

        Raises HTTPRejection.
        """
        stream = self._hub.stream
        if not stream.history_loaded.is_set():
            raise _not_now(
                "not_ready",
                "the server is starting and still reads its history; retry",
            )
        patterns: list[str] = []
        rejected = [(item.name, item.code, item.message) for item in command.selection.rejected]
        for name, wanted in command.selection.wanted.items():
            if missing := grant.missing(wanted):
                rejected.append((name, ErrorCode.FORBIDDEN, not_granted(missing)))
            else:
                patterns += wanted
        # In one step: the snapshot has everything up to the positions and nothing after them.
        topics = stream.catalogue.topics_of(patterns)
        positions, ids = stream.positions_of(topics), stream.ids_of(topics)
        time_slice = TimeSlice(self._context.scans.wait_for_work_slice)
        messages = await time_slice.run(self._hub.snapshots.matching(patterns, stream.order))
        self._check_size(messages)
        item: dict[str, Any] = {
            "type": "snapshot",
            "rejected": [
                {"name": name, "code": code, "message": message} for name, code, message in rejected
            ],
            "positions": positions,
            "categories": stream.categories_of(topics),
            "ids": ids,
            "event_id": str(EventId(positions, ids)),
        }
        content = await time_slice.run(_written(item, messages))
        return HTTPResponse(HTTPStatus.OK, content, "application/json", headers)

    def _check_size(self, messages: Sequence[ChannelMessage]) -> None:
        size = sum(len(message.value) for message in messages)
        if size > self._max_bytes:
            text = (
                f"a snapshot of {len(messages)} channels would have {size} bytes, and "
                f"{self._max_bytes} are allowed: request fewer channels, or for snapshot=true at "
                "/sse, which sends it as the client reads"
            )
            raise HTTPRejection(HTTPStatus.BAD_REQUEST, "snapshot_too_large", text)
        # Twice the size: the messages one by one, and the whole response.
        if not self._limits.take(2 * size):
            raise _not_now("snapshot_memory", "the server is short of memory")


def _written(item: dict[str, Any], messages: Sequence[ChannelMessage]) -> Steps[bytes]:
    parts: list[bytes] = []
    for count, message in enumerate(messages, 1):
        parts.append(message.in_batch(Dialect.V1))
        if not count % STEP_MESSAGES:
            yield
    return b'%b,"messages":[%b]}\n' % (dump_json(item)[:-1], b",".join(parts))


def _not_now(label: str, text: str) -> HTTPRejection:
    return HTTPRejection(HTTPStatus.SERVICE_UNAVAILABLE, label, text, [retry_after()])
