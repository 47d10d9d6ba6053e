"""The HTTP request head, read by ourselves: under a size and a time limit, before any upgrade."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import attrs
import h11
import trio
from wsproto.utilities import generate_accept_token

from odin_ws.listener.transport import Transport

__all__ = [
    "BAD_REQUESTS",
    "PATH",
    "Head",
    "Refusal",
    "check_upgrade",
    "read_head",
    "refuse",
    "upgrade",
]

PATH: Final = "/ws"

# The labels of what is refused here; the metrics show each from the start.
BAD_REQUESTS: Final = (
    "bad_method",
    "bad_proxy_header",
    "bad_request",
    "bad_version",
    "head_timeout",
    "head_too_large",
    "no_tls",
    "no_upgrade",
    "not_found",
    "tls_failed",
)

# Nobody's head needs more header lines; h11 itself only limits their bytes.
_MAX_HEADERS: Final = 100

# RFC 6455, 4.1: the key is 16 random bytes in base64.
_KEY_BYTES: Final = 16

# Headers that say one thing. Said twice, the proxy in front may have gone by one of them while we
# go by the other.
_ONCE: Final = frozenset(
    {
        "authorization",
        "content-length",
        "host",
        "origin",
        "sec-websocket-key",
        "sec-websocket-version",
    }
)

# The headers that decide something here. The others are not kept, so that no code can come to
# depend on a header that was not checked. RFC 9110, 5.5 leaves open what bytes over 0x7f mean, so a
# header of these has none; cookies, user agents and a CDN's header with a city may have them.
_READ: Final = _ONCE | {"connection", "sec-websocket-protocol", "transfer-encoding", "upgrade"}

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

# What a target may begin with that names a server (RFC 9112, 3.2.2).
_SCHEMES: Final = frozenset({"http", "https", "ws", "wss"})


@attrs.define
class Refusal(Exception):
    """An answer instead of the upgrade. `label` names it in metrics."""

    status: HTTPStatus
    label: str
    text: str
    headers: Sequence[tuple[str, str]] = ()


@attrs.frozen
class Head:
    """A request head. `rest`: the bytes that came with it and behind it.

    `headers` has those that are read here. Their names are lower case; of a repeated header it has
    the values joined by commas.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    rest: bytes = b""


async def read_head(
    transport: Transport, *, max_bytes: int, forwarded: str | None = None
) -> Head | None:
    """Read and parse one head; None where the peer left before it was whole. Raises Refusal.

    `forwarded`: the header in which a trusted proxy names its client, where one has connected.
    """
    data = await transport.receive_some(max_bytes)
    if not data:
        return None
    # Nearly every head comes whole, and is written as RFC 9112 says.
    head = parse_plain(data, max_bytes, forwarded)
    if head is not None:
        return head
    return await _read_any(transport, data, max_bytes, forwarded)


def parse_plain(data: bytes, max_bytes: int, forwarded: str | None = None) -> Head | None:
    """Parse bytes that begin with a whole head in which nothing is doubtful; None for all others.

    One pass of a regular expression instead of h11 and a second look. What it does not take is
    left to those, which take the same heads in the same way, and say what is wrong with others.
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
    return Head(method, path, query, headers, data[match.end() :])


async def _read_any(
    transport: Transport, data: bytes, max_bytes: int, forwarded: str | None
) -> Head | None:
    """Read and parse a head that has begun with `data`; see `read_head`."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=max_bytes)
    received = bytearray()
    while data:
        received += data
        parser.receive_data(data)
        event = _next_event(parser)
        if isinstance(event, h11.Request):
            rest, _ended = parser.trailing_data
            size = len(received) - len(rest)
            # h11 only limits what is not whole yet.
            if size > max_bytes:
                raise _too_large(f"more than {max_bytes} bytes")
            _check_lines(bytes(received[:size]), len({name for name, _ in event.headers}))
            return _head(event, rest, forwarded)
        data = await transport.receive_some(max_bytes)
    return None


def _next_event(parser: h11.Connection) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        # h11 raises it from one of its own methods: its frames would hold it, and it them.
        error.__traceback__ = None
        if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            raise _too_large("request too large") from error
        raise _bad(f"bad request: {error}") from error


def _check_lines(head: bytes, names: int) -> None:
    """Refuse what h11 reads in one way and a proxy in front may have read in another.

    `names`: how many different ones h11 has read.
    """
    if not head.count(b"\r") == head.count(b"\n") == head.count(b"\r\n"):
        raise _bad("a line ends with CR LF")
    lines = head.split(b"\r\n")
    if any(line.startswith((b" ", b"\t")) for line in lines):
        raise _bad("a header has one line")
    if _LENGTHS.search(head):
        raise _bad("content-length: given twice")
    # The first line is the request's, the last two are the empty one at the end.
    if len(lines) - _LINES_BESIDE_HEADERS == names:
        return
    seen = Counter(line.partition(b":")[0].lower().decode("latin-1") for line in lines[1:])
    if twice := sorted(name for name in _ONCE if seen[name] > 1):
        raise _bad(f"{twice[0]}: given twice")


def _head(request: h11.Request, rest: bytes, forwarded: str | None) -> Head:
    headers = _headers(request, _READ if forwarded is None else _READ | {forwarded})
    if request.http_version != b"1.1":
        raise _bad("HTTP/1.1 is needed")
    # h11 sees to it that there is one, from HTTP/1.1 on.
    host = headers["host"]
    if not _HOST.fullmatch(host):
        raise _bad("host: one name or address, and a port")
    if b"#" in request.target:
        raise _bad("the target has a fragment")
    try:
        target = _target(request.target.decode("ascii"))
        query = _query(target.query)
    except _Ambiguous:
        raise _bad("the query has a field twice, with different values") from None
    except ValueError as error:
        raise _bad("the target is no URL") from error
    if target.scheme and (target.scheme not in _SCHEMES or not _is_same(target.netloc, host)):
        raise _bad("the target names another server than Host")
    return Head(request.method.decode("ascii"), target.path, query, headers, rest)


def _headers(request: h11.Request, read: AbstractSet[str]) -> dict[str, str]:
    """Those that are `read`, by name; the values of a repeated one joined."""
    if len(request.headers) > _MAX_HEADERS:
        raise _too_large(f"more than {_MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name = raw_name.decode("ascii")  # h11 lets nothing else through
        if _CONTROL.search(raw_value):
            raise _bad(f"{name}: a control character")
        if name not in read:
            continue
        if not raw_value.isascii():
            raise _bad(f"{name}: not ASCII")
        value = raw_value.decode("ascii")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


class _Ambiguous(ValueError):
    """A query that has a field twice, with different values."""


def _query(text: str) -> dict[str, str]:
    """Raises ValueError."""
    fields = parse_qsl(text, keep_blank_values=True, errors="strict")
    query = dict(fields)
    if len(query) < len(set(fields)):
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


def _bad(text: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "bad_request", text)


def _too_large(text: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", text)


def check_upgrade(head: Head) -> None:
    """Check that a head asks for a WebSocket here, as RFC 6455, 4.2.1 says. Raises Refusal."""
    if head.path != PATH:
        raise Refusal(
            HTTPStatus.NOT_FOUND, "not_found", f"nothing here; the WebSocket is at {PATH}"
        )
    if head.method != "GET":
        raise Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED, "bad_method", "GET is needed", [("Allow", "GET")]
        )
    if head.headers.get("content-length", "0") != "0" or "transfer-encoding" in head.headers:
        raise _bad("a body has no place here")
    if not (_lists(head, "upgrade", "websocket") and _lists(head, "connection", "upgrade")):
        raise Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "no_upgrade",
            "a WebSocket upgrade is needed",
            [("Upgrade", "websocket")],
        )
    if head.headers.get("sec-websocket-version") != "13":
        raise Refusal(
            HTTPStatus.UPGRADE_REQUIRED,
            "bad_version",
            "WebSocket version 13 is needed",
            [("Sec-WebSocket-Version", "13")],
        )
    if not _is_key(head.headers.get("sec-websocket-key", "")):
        raise _bad("Sec-WebSocket-Key: 16 bytes in base64")


def _lists(head: Head, name: str, word: str) -> bool:
    """Whether a header that is a list (RFC 9110, 5.6.1) has a word, in upper or lower case."""
    text = head.headers.get(name, "").lower()
    return text == word or word in {one.strip(" \t") for one in text.split(",")}


def upgrade(head: Head, subprotocol: str | None = None) -> bytes:
    """The answer to a head that `check_upgrade` has passed: from its end on frames are spoken.

    `subprotocol`: which one the server has selected.
    """
    selected = f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode() if subprotocol else b""
    token = generate_accept_token(head.headers["sec-websocket-key"].encode("ascii"))
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (token, selected)
    )


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def refuse(refusal: Refusal) -> bytes:
    """The response that says so, as bytes."""
    body = f"{refusal.text}\n".encode("ascii", "backslashreplace")
    connection = h11.Connection(h11.SERVER)
    head = connection.send(
        h11.Response(
            status_code=refusal.status,
            reason=refusal.status.phrase.encode(),
            headers=[
                ("Content-Type", "text/plain; charset=us-ascii"),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
                *refusal.headers,
            ],
        )
    )
    return (head or b"") + body
