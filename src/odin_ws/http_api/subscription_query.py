"""The query of /sse and /snapshot as the data of a subscribe or resume command."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import attrs

from odin_ws.catalogue import Catalogue
from odin_ws.handshake.request import HandshakeRequest, bad_request
from odin_ws.protocol.errors import shown
from odin_ws.protocol.event_id import EventId, InvalidEventId, parse_event_id
from odin_ws.protocol.json_text import InvalidJson, dump_json, load_json
from odin_ws.protocol.selection import NAMES
from odin_ws.protocol.wire_format import Frames

__all__ = ["EventQuery", "read_event_query", "read_snapshot_query"]

# The field of a JWT, if WS_TOKEN_IN_QUERY allows one; handshake/credentials.py reads it.
_TOKEN: Final = "token"  # noqa: S105 -- a name

_LAST_EVENT_ID: Final = "last_event_id"

_FIELDS: Final = (
    *NAMES,
    "delivery",
    "frames",
    "max_rate",
    "snapshot",
    "since_ms",
    "where",
    _LAST_EVENT_ID,
)

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}

_RATE: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?")

# Epoch milliseconds have 13 digits, the largest valid number (2^53 - 1) has 16.
_MAX_DIGITS: Final = 16


@attrs.frozen
class EventQuery:
    """The subscription of a request for /sse."""

    command: str
    """The text of the subscribe or resume."""
    frames: Frames
    start: EventId | None
    """The positions of a resume; None for a new subscription."""
    snapshot: bool
    """True if the last message of each channel comes first."""


def read_event_query(request: HandshakeRequest, catalogue: Catalogue) -> EventQuery:
    """Read the query and the Last-Event-ID of a request. Raises HTTPRejection."""
    query = request.query
    _check_fields(query, _FIELDS)
    data: dict[str, Any] = _read_names(query)
    frames = query.get("frames", Frames.SINGLE)
    if frames not in tuple(Frames):
        raise bad_request(f"frames: must be {' or '.join(Frames)}, not {shown(frames)!r}")
    if "delivery" in query:
        data["delivery"] = query["delivery"]
    if "max_rate" in query:
        data["max_rate"] = _rate(query["max_rate"])
    where = _json(query, "where") if "where" in query else None
    snapshot = _flag(query, "snapshot")
    # A browser sends its last id in the header; the id in the query is from the page's start.
    text = request.headers.get("last-event-id") or query.get(_LAST_EVENT_ID, "")
    start = _start(text) if text else None
    if start is None:
        data |= {"positions": True, "snapshot": snapshot}
        if "since_ms" in query:
            data["since_ms"] = _number(query, "since_ms")
        command = _command("subscribe", data, where)
        return EventQuery(command, Frames(frames), None, snapshot)
    snapshot = snapshot and start.in_snapshot
    # A topic that is no longer in the catalogue has no subscribers.
    known = {topic: own for topic, own in start.positions.items() if topic in catalogue.topics}
    data["positions"] = known
    data["ids"] = {topic: start.ids[topic] for topic in known if topic in start.ids}
    data["snapshot"] = snapshot
    return EventQuery(_command("resume", data, where), Frames(frames), start, snapshot)


def read_snapshot_query(request: HandshakeRequest) -> str:
    """Read the query of a snapshot, as the text of a subscribe. Raises HTTPRejection."""
    _check_fields(request.query, NAMES)
    return _command("subscribe", _read_names(request.query))


def _read_names(query: Mapping[str, str]) -> dict[str, list[str]]:
    """Read the parameters that are lists of names, separated by commas."""
    return {
        field: [name for name in query[field].split(",") if name]
        for field in NAMES
        if field in query
    }


def _check_fields(query: Mapping[str, str], allowed: Collection[str]) -> None:
    if unknown := query.keys() - {*allowed, _TOKEN}:
        # `repr` escapes control characters, which a log or a terminal would interpret.
        fields = shown(repr(", ".join(sorted(unknown)))[1:-1])
        raise bad_request(f"the query: unknown field {fields}; allowed: {', '.join(allowed)}")


def _command(kind: str, data: Mapping[str, Any], where: str | None = None) -> str:
    """Write a command. `where`: JSON as the client wrote it, because some numbers have no other."""
    fields = dump_json(data).decode()
    if where is not None:
        fields = f'{fields[:-1]},"where":{where}}}'
    return f'{{"type":"{kind}","data":{fields}}}'


def _start(text: str) -> EventId:
    try:
        return parse_event_id(text)
    except InvalidEventId as error:
        raise bad_request(f"Last-Event-ID: {error}") from error


def _flag(query: Mapping[str, str], field: str) -> bool:
    text = query.get(field, "false")
    if text not in _FLAGS:
        raise bad_request(f"{field}: must be true or false, not {shown(text)!r}")
    return _FLAGS[text]


def _json(query: Mapping[str, str], field: str) -> str:
    """Return a field that is one JSON text."""
    try:
        load_json(query[field])
    except InvalidJson as error:
        raise bad_request(f"{field}: must be JSON: {error}") from error
    return query[field]


def _rate(text: str) -> float:
    if not _RATE.fullmatch(text):
        raise bad_request(f"max_rate: must be a number of messages per second, not {shown(text)!r}")
    return float(text)


def _number(query: Mapping[str, str], field: str) -> int:
    text = query[field]
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise bad_request(f"{field}: must be epoch milliseconds, not {shown(text)!r}")
    return int(text)
