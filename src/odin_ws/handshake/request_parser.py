"""Parses the HTTP request head, strictly and with a size limit (431)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import h11

from odin_ws.canary.credential import CANARY_HEADER
from odin_ws.handshake.request import HandshakeRequest, bad_request, too_large
from odin_ws.listener.transport import Transport

__all__ = ["RequestParser", "parse_plain", "read_request"]

# No client needs more header lines; h11 itself limits only their bytes.
_MAX_HEADERS: Final = 100

# Headers with one value. If one is repeated, a proxy in front may have used another value than the
# server.
_ONCE: Final = frozenset(
    {
        CANARY_HEADER,
        "authorization",
        "content-length",
        "host",
        "last-event-id",
        "origin",
        "sec-websocket-key",
        "sec-websocket-version",
    }
)

# The headers that the server uses. Others are dropped, so that no code can use an unchecked header.
# RFC 9110, 5.5 leaves the meaning of bytes over 0x7f open, so these headers must not have any;
# cookies, user agents and a CDN's header with a city may have them.
_READ: Final = _ONCE | {
    "accept",
    "connection",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "transfer-encoding",
    "upgrade",
}

# By the name as `parse_plain` finds it.
_NAMES: Final = {name.encode("ascii"): name for name in _READ}

# Headers that announce a body, which parsers interpret differently.
_OF_BODIES: Final = frozenset({"content-length", "transfer-encoding"})

_SLASH: Final = ord("/")

_LINES_BESIDE_HEADERS: Final = 3

# h11 merges a list of equal lengths, as RFC 9110, 8.6 allows; other parsers do not.
_LENGTHS: Final = re.compile(rb"\r\ncontent-length:[^\r]*,", re.IGNORECASE)

# RFC 9112, 3.2: one name or address, and a port; no other part of a URL.
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][\s,/?#@\\:]*)(:[0-9]{0,5})?")

# RFC 9110, 5.5 forbids control characters in values except the tab; h11 accepts most of them.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# RFC 9112, 3 and 5: a request line and header lines, each ended by CR LF, and an empty line. No
# alternative begins like another one, so there is no backtracking.
_TCHAR: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
_PLAIN: Final = re.compile(
    rb"(%b++) ([\x21-\x7e]++) HTTP/1\.1\r\n((?:%b++:%b*+\r\n)*+)\r\n" % (_TCHAR, _TCHAR, _VALUE)
)
_FIELD: Final = re.compile(rb"(%b++):(%b*+)\r\n" % (_TCHAR, _VALUE))

# The fields of a query that are lists of names: one that is repeated is one list.
_LISTS: Final = frozenset({"bundles", "channels", "tokens", "topics"})

_VERSIONS: Final = {b"1.0": "1.0", b"1.1": "1.1"}

# The beginnings of a target that names a server (RFC 9112, 3.2.2).
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})


async def read_request(
    transport: Transport,
    *,
    max_bytes: int,
    forwarded: str | None = None,
    begun: bytes | None = None,
) -> HandshakeRequest | None:
    """Read and parse a request head; None if the peer disconnected before. Raises HTTPRejection.

    `forwarded`: the header in which a trusted proxy names its client, if a proxy connected.
    `begun`: the bytes received so far.
    """
    data = begun or await transport.receive_some(max_bytes)
    # Nearly every head arrives whole and follows RFC 9112.
    request = parse_plain(data, max_bytes, forwarded)
    if request is None and data:
        parser = RequestParser(max_bytes, forwarded)
        while data and (request := parser.receive(data)) is None:
            data = await transport.receive_some(max_bytes)
    return request


def parse_plain(
    data: bytes, max_bytes: int, forwarded: str | None = None
) -> HandshakeRequest | None:
    """Parse bytes that begin with a whole, unambiguous head; None for all others.

    A regular expression takes 6 us, h11 and the second check of its result 55 us (a head without
    cookies). `RequestParser` returns an equal result for every head that is accepted here, and
    decides about all others, including all rejections.
    """
    match = _PLAIN.match(data)
    if match is None or match.end() > max_bytes:
        return None
    fields = _FIELD.findall(match[3])
    if len(fields) > _MAX_HEADERS:
        return None
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        lower = raw_name.lower()
        name = _NAMES.get(lower)
        if name is None:
            if forwarded is None or lower != forwarded.encode("ascii"):
                continue
            name = forwarded
        # Folded lines, bodies, and bytes that are not ASCII.
        if name in headers or name in _OF_BODIES or not raw_value.isascii():
            return None
        headers[name] = raw_value.decode("ascii").strip(" \t")
    host, target = headers.get("host"), match[2]
    if host is None or not _HOST.fullmatch(host) or target[0] != _SLASH or b"#" in target:
        return None
    path, _, text = target.decode("ascii").partition("?")
    try:
        query = _query(text) if text else {}
    except ValueError:
        return None
    method = match[1].decode("ascii")
    return HandshakeRequest(method, path, query, headers, data[match.end() :])


class RequestParser:
    """Parses any head, in pieces of any size, with h11 and a second, stricter check.

    `forwarded`: see `read_request`.
    """

    def __init__(self, max_bytes: int, forwarded: str | None = None) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes)
        self._received = bytearray()
        self._max_bytes = max_bytes
        self._forwarded = forwarded

    def receive(self, data: bytes) -> HandshakeRequest | None:
        """Add bytes; returns None until the head is whole. Raises HTTPRejection."""
        self._received += data
        self._parser.receive_data(data)
        event = _next_event(self._parser)
        if not isinstance(event, h11.Request):
            return None
        rest, _ended = self._parser.trailing_data
        size = len(self._received) - len(rest)
        # h11 limits only incomplete heads.
        if size > self._max_bytes:
            raise too_large(f"the request head has more than {self._max_bytes} bytes")
        request = bytes(self._received[:size])
        _check_lines(request, len({name for name, _ in event.headers}))
        return _parse_request(event, rest, self._forwarded)


def _next_event(parser: h11.Connection) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        # h11 raises it from one of its own methods: its frames would form a reference cycle.
        error.__traceback__ = None
        if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            raise too_large("request too large") from error
        raise bad_request(f"bad request: {error}") from error


def _check_lines(request: bytes, names: int) -> None:
    """Reject what h11 and a proxy in front may read differently.

    `names`: how many different headers h11 has read.
    """
    if not request.count(b"\r") == request.count(b"\n") == request.count(b"\r\n"):
        raise bad_request("lines must end with CR LF")
    lines = request.split(b"\r\n")
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise bad_request("header lines must not be folded")
    if _LENGTHS.search(request):
        raise bad_request("content-length: duplicate")
    # Without the request line and the two empty lines at the end.
    if len(lines) - _LINES_BESIDE_HEADERS == names:
        return
    seen = Counter(line.partition(b":")[0].lower().decode("latin-1") for line in lines[1:])
    if twice := sorted(name for name in _ONCE if seen[name] > 1):
        raise bad_request(f"{twice[0]}: duplicate")


def _parse_request(request: h11.Request, rest: bytes, forwarded: str | None) -> HandshakeRequest:
    headers = _headers(request, _READ if forwarded is None else _READ | {forwarded})
    version = _VERSIONS.get(request.http_version)
    if version is None:
        raise bad_request("HTTP/1.1 is required")
    # h11 guarantees a Host from HTTP/1.1 on. Load balancers probe with HTTP/1.0.
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise bad_request("host: must be one name or address, and a port")
    if b"#" in request.target:
        raise bad_request("the request target must not have a fragment")
    try:
        target = _target(request.target.decode("ascii"))
        query = _query(target.query)
    except _Ambiguous:
        raise bad_request(
            "the query must not have a parameter twice with different values"
        ) from None
    except ValueError as error:
        raise bad_request("the request target must be a path or URL") from error
    if target.scheme and (target.scheme not in _SCHEMES or not _is_same(target.netloc, host)):
        raise bad_request("the request target and Host must name the same server")
    method = request.method.decode("ascii")
    return HandshakeRequest(method, target.path, query, headers, rest, version)


def _headers(request: h11.Request, read: AbstractSet[str]) -> dict[str, str]:
    """Return the headers of `read`, by name; values of a repeated header are joined."""
    if len(request.headers) > _MAX_HEADERS:
        raise too_large(f"the request has more than {_MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name = raw_name.decode("ascii")  # h11 rejects others
        if _CONTROL.search(raw_value):
            raise bad_request(f"{name}: must not have control characters")
        if name not in read:
            continue
        if not raw_value.isascii():
            raise bad_request(f"{name}: must be ASCII")
        value = raw_value.decode("ascii")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _Ambiguous(ValueError):
    """A query that has a parameter twice, with different values."""


def _query(text: str) -> dict[str, str]:
    """Parse a query. Raises ValueError."""
    fields = parse_qsl(text, keep_blank_values=True, errors="strict")
    query = dict(fields)
    if len(query) < len(fields):
        for name, value in query.items():
            values = [other for field, other in fields if field == name]
            if name in _LISTS:
                query[name] = ",".join(values)
            elif values != [value] * len(values):
                raise _Ambiguous
    return query


def _is_same(server: str, host: str) -> bool:
    return bool(server) and server.lower() == host.lower()


def _target(text: str) -> SplitResult:
    """Parse a target. Raises ValueError. A leading slash makes it a path, also in `//a/ws`."""
    if text.startswith("/"):
        path, _, query = text.partition("?")
        return SplitResult("", "", path, query, "")
    return urlsplit(text)
