"""Requests for events and snapshots, and filters, with arbitrary bytes in their queries."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final

from odin_ws.catalogue import default_catalogue
from odin_ws.handshake.request import HandshakeRequest, HTTPRejection
from odin_ws.handshake.request_parser import RequestParser
from odin_ws.http_api.subscription_query import read_event_query, read_snapshot_query
from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import Resume, Subscribe
from odin_ws.protocol.errors import CommandError
from odin_ws.protocol.event_id import InvalidEventId, parse_event_id
from odin_ws.protocol.filters.fields import Fields
from odin_ws.protocol.filters.parser import MAX_TERMS, InvalidFilter, read_filter
from odin_ws.protocol.json_text import InvalidJson, load_json
from tests.fuzz.conversations import run_request

__all__ = ["check_events", "check_filter", "check_query", "http_head"]

_CATALOGUE: Final = default_catalogue()
_HEAD_BYTES: Final = 4096


def check_filter(data: bytes) -> None:
    """A tree is a filter or is rejected; a filter and its negation divide all values.

    The tree is in the first line, a record's value in the others.
    """
    text, _, value = data.partition(b"\n")
    try:
        tree, _ = load_json(text), load_json(value)
    except InvalidJson:
        return
    found = None
    with suppress(InvalidFilter):
        found = read_filter(tree)
    if found is None:
        return
    assert 0 < found.terms <= MAX_TERMS
    assert read_filter(found.source) == found
    holds = found.matches(Fields(value))
    assert holds is found.matches(Fields(value))
    for tree, expected in (
        ({"and": [found.source, found.source]}, holds),
        ({"not": found.source}, not holds),
    ):
        # It may be too deep or too long now.
        with suppress(InvalidFilter):
            assert read_filter(tree).matches(Fields(value)) is expected


def http_head(data: bytes) -> bytes:
    """A request head: the first line is its path and query, the others are headers."""
    target, *headers = data.split(b"\n")
    return b"\r\n".join([b"GET /%b HTTP/1.1" % target, b"Host: test", *headers, b"", b""])


def check_query(data: bytes) -> None:
    """A request gives a command, or a rejection that a client can read."""
    request: HandshakeRequest | None = None
    with suppress(HTTPRejection):
        request = RequestParser(_HEAD_BYTES, None).receive(http_head(data))
    if request is None:
        return
    text: str | None = None
    with suppress(HTTPRejection):
        query = read_event_query(request, _CATALOGUE)
        command = _check_command(query.command)
        if command is not None and command.where is not None:
            # The same filter as in a command of a WebSocket.
            assert read_filter(load_json(request.query["where"])) == command.where
        assert query.start is None or parse_event_id(str(query.start)) == query.start
    with suppress(HTTPRejection):
        text = read_snapshot_query(request)
    if text is not None:
        assert isinstance(_check_command(text), Subscribe | None)
    for text in (request.headers.get("last-event-id", ""), request.query.get("id", "")):
        with suppress(InvalidEventId):
            start = parse_event_id(text)
            assert parse_event_id(str(start)) == start
            assert len(str(start)) <= len(text)


def _check_command(text: str) -> Subscribe | Resume | None:
    data: dict[str, Any] = json.loads(text)
    assert data["type"] in {"subscribe", "resume"}
    with suppress(CommandError):
        command = decode_command(text, _CATALOGUE)
        assert isinstance(command, Subscribe | Resume)
        return command
    return None


def check_events(data: bytes) -> None:
    """A request to a server, beside a subscriber; the first byte selects the ending.

    Bytes behind a form feed follow the request.
    """
    head, _, rest = data[1:].partition(b"\f")
    run_request([http_head(head), *filter(None, [rest])], data[0] if data else 0)
