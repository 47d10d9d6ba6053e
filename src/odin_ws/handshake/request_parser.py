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

# Nobody's head needs more header lines; h11 itself only limits their bytes.
_MAX_HEADERS: Final = 100

# Headers that say one thing. Said twice, the proxy in front may have gone by one of them while we
# go by the other.
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

# The headers that decide something here. The others are not kept, so that no code can come to
# depend on a header that was not checked. RFC 9110, 5.5 leaves open what bytes over 0x7f mean, so a
# header of these has none; cookies, user agents and a CDN's header with a city may have them.
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

# What says that a body follows, which several parsers read in several ways.
_OF_BODIES: Final = frozenset({"content-length", "transfer-encoding"})

_SLASH: Final = ord("/")

_LINES_BESIDE_HEADERS: Final = 3

# h11 makes one length of a list of the same one, as RFC 9110, 8.6 allows; not everybody does.
_LENGTHS: Final = re.compile(rb"\r\ncontent-length:[^\r]*,", re.IGNORECASE)

# RFC 9112, 3.2: a name or address, and a port; not two of them, nor another part of a URL.
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^][\s,/?#@\\:]*)(:[0-9]{0,5})?")

# RFC 9110, 5.5 has no control characters in values but the tab; h11 lets most of them through.
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# RFC 9112, 3 and 5: a request line and header lines, each ended by CR LF, and the empty line. No
# alternative begins as another one does, so nothing is tried twice.
_TCHAR: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
_PLAIN: Final = re.compile(
    rb"(%b++) ([\x21-\x7e]++) HTTP/1\.1\r\n((?:%b++:%b*+\r\n)*+)\r\n" % (_TCHAR, _TCHAR, _VALUE)
)
_FIELD: Final = re.compile(rb"(%b++):(%b*+)\r\n" % (_TCHAR, _VALUE))

# The fields of a query that are lists of names: one that is repeated is one list.
_LISTS: Final = frozenset({"bundles", "channels", "tokens", "topics"})

_VERSIONS: Final = {b"1.0": "1.0", b"1.1": "1.1"}

# What a target may begin with that names a server (RFC 9112, 3.2.2).
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})


async def read_request(
    transport: Transport,
    *,
    max_bytes: int,
    forwarded: str | None = None,
    begun: bytes | None = None,
) -> HandshakeRequest | None:
    """Read and parse one head; None where the peer left before it was whole. Raises HTTPRejection.

    `forwarded`: the header in which a trusted proxy names its client, where one has connected.
    `begun`: what has been received already.
    """
    data = begun or await transport.receive_some(max_bytes)
    # Nearly every head comes whole, and is written as RFC 9112 says.
    request = parse_plain(data, max_bytes, forwarded)
    if request is None and data:
        parser = RequestParser(max_bytes, forwarded)
        while data and (request := parser.receive(data)) is None:
            data = await transport.receive_some(max_bytes)
    return request


def parse_plain(
    data: bytes, max_bytes: int, forwarded: str | None = None
) -> HandshakeRequest | None:
    """Parse bytes that begin with a whole head in which nothing is doubtful; None for all others.

    A regular expression takes 6 us where h11 and the second look at its result take 55 (a head
    without cookies). `RequestParser` returns an equal Head for every head that is taken here, and
    decides about all others: what is rejected is rejected there.
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
        # Lines that have to be joined, bodies, and bytes of no encoding.
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
    """Parses any head, in whatever pieces it comes: h11, and a second look at what it lets through.

    `forwarded`: see `read_request`.
    """

    def __init__(self, max_bytes: int, forwarded: str | None = None) -> None:
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes)
        self._received = bytearray()
        self._max_bytes = max_bytes
        self._forwarded = forwarded

    def receive(self, data: bytes) -> HandshakeRequest | None:
        """Take the next bytes; None as long as the head is not whole. Raises HTTPRejection."""
        self._received += data
        self._parser.receive_data(data)
        event = _next_event(self._parser)
        if not isinstance(event, h11.Request):
            return None
        rest, _ended = self._parser.trailing_data
        size = len(self._received) - len(rest)
        # h11 only limits what is not whole yet.
        if size > self._max_bytes:
            raise too_large(f"more than {self._max_bytes} bytes")
        request = bytes(self._received[:size])
        _check_lines(request, len({name for name, _ in event.headers}))
        return _parse_request(event, rest, self._forwarded)


def _next_event(parser: h11.Connection) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        # h11 raises it from one of its own methods: its frames would hold it, and it them.
        error.__traceback__ = None
        if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            raise too_large("request too large") from error
        raise bad_request(f"bad request: {error}") from error


def _check_lines(request: bytes, names: int) -> None:
    """Reject what h11 reads in one way and a proxy in front may have read in another.

    `names`: how many different ones h11 has read.
    """
    if not request.count(b"\r") == request.count(b"\n") == request.count(b"\r\n"):
        raise bad_request("a line ends with CR LF")
    lines = request.split(b"\r\n")
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise bad_request("a header has one line")
    if _LENGTHS.search(request):
        raise bad_request("content-length: given twice")
    # The first line is the request's, the last two are the empty one at the end.
    if len(lines) - _LINES_BESIDE_HEADERS == names:
        return
    seen = Counter(line.partition(b":")[0].lower().decode("latin-1") for line in lines[1:])
    if twice := sorted(name for name in _ONCE if seen[name] > 1):
        raise bad_request(f"{twice[0]}: given twice")


def _parse_request(request: h11.Request, rest: bytes, forwarded: str | None) -> HandshakeRequest:
    headers = _headers(request, _READ if forwarded is None else _READ | {forwarded})
    version = _VERSIONS.get(request.http_version)
    if version is None:
        raise bad_request("HTTP/1.1 is needed")
    # h11 sees to it that there is one, from HTTP/1.1 on. Load balancers probe with HTTP/1.0.
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        raise bad_request("host: one name or address, and a port")
    if b"#" in request.target:
        raise bad_request("the target has a fragment")
    try:
        target = _target(request.target.decode("ascii"))
        query = _query(target.query)
    except _Ambiguous:
        raise bad_request("the query has a field twice, with different values") from None
    except ValueError as error:
        raise bad_request("the target is no URL") from error
    if target.scheme and (target.scheme not in _SCHEMES or not _is_same(target.netloc, host)):
        raise bad_request("the target names another server than Host")
    method = request.method.decode("ascii")
    return HandshakeRequest(method, target.path, query, headers, rest, version)


def _headers(request: h11.Request, read: AbstractSet[str]) -> dict[str, str]:
    """Those that are `read`, by name; the values of a repeated one joined."""
    if len(request.headers) > _MAX_HEADERS:
        raise too_large(f"more than {_MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name = raw_name.decode("ascii")  # h11 lets nothing else through
        if _CONTROL.search(raw_value):
            raise bad_request(f"{name}: a control character")
        if name not in read:
            continue
        if not raw_value.isascii():
            raise bad_request(f"{name}: not ASCII")
        value = raw_value.decode("ascii")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _Ambiguous(ValueError):
    """A query that has a field twice, with different values."""


def _query(text: str) -> dict[str, str]:
    """Raises ValueError."""
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
    """Raises ValueError. What begins with a slash is a path, and names no server: `//a/ws` too."""
    if text.startswith("/"):
        path, _, query = text.partition("?")
        return SplitResult("", "", path, query, "")
    return urlsplit(text)
