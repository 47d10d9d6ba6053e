"""The HTTP request of a handshake, upgrade checks, the 101 response and HTTP rejections."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import attrs
import h11
from wsproto.utilities import generate_accept_token

__all__ = [
    "PATH",
    "REQUEST_REJECTIONS",
    "HTTPRejection",
    "HTTPResponse",
    "HandshakeRequest",
    "bad_request",
    "check_method",
    "check_no_body",
    "check_upgrade",
    "rejection_response",
    "too_large",
    "upgrade_response",
]

PATH: Final = "/ws"

# The labels of rejections here; the metrics show each from the start.
REQUEST_REJECTIONS: Final = (
    "bad_method",
    "bad_proxy_header",
    "bad_request",
    "bad_version",
    "handshake_timeout",
    "header_too_large",
    "no_tls",
    "no_upgrade",
    "not_found",
    "tls_failed",
)

# RFC 6455, 4.1: the key is 16 random bytes in base64.
_KEY_BYTES: Final = 16


@attrs.define
class HTTPRejection(Exception):
    """An HTTP error response instead of the upgrade. `label` names it in metrics.

    `response`: sent instead to clients that need another form.
    """

    status: HTTPStatus
    label: str
    text: str
    headers: Sequence[tuple[str, str]] = ()
    response: HTTPResponse | None = None


@attrs.frozen
class HandshakeRequest:
    """A request head."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """The headers that the server reads, by lower-case name; values of a repeated header are joined
    by commas."""
    rest: bytes = b""
    """The bytes that arrived after the head."""
    version: str = "1.1"
    """The HTTP version, `1.0` or `1.1`."""


@attrs.frozen
class HTTPResponse:
    """A response that ends the connection. `headers`: besides those of its content."""

    status: HTTPStatus
    content: bytes
    content_type: str = "text/plain; charset=us-ascii"
    headers: Sequence[tuple[str, str]] = ()

    def encode(self, *, head: bool = False) -> bytes:
        """Return the response as bytes; `head`: for a HEAD request, without content."""
        fields = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.content))),
            ("Connection", "close"),
            *self.headers,
        ]
        if self.status is HTTPStatus.NO_CONTENT:
            # RFC 9110, 8.6: it may have no Content-Length.
            fields = fields[2:]
        response = h11.Response(
            status_code=self.status, reason=self.status.phrase.encode(), headers=fields
        )
        written = h11.Connection(h11.SERVER).send(response) or b""
        return written if head else written + self.content


def bad_request(text: str) -> HTTPRejection:
    """Return a 400: the request is invalid; `text` has the reason."""
    return HTTPRejection(HTTPStatus.BAD_REQUEST, "bad_request", text)


def too_large(text: str) -> HTTPRejection:
    """Return a 431; `text` says what is too large."""
    return HTTPRejection(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header_too_large", text)


def check_upgrade(request: HandshakeRequest) -> None:
    """Check that a request is a WebSocket upgrade (RFC 6455, 4.2.1). Raises HTTPRejection."""
    if request.path != PATH:
        raise HTTPRejection(
            HTTPStatus.NOT_FOUND, "not_found", f"not found; the WebSocket is at {PATH}"
        )
    if request.version != "1.1":
        raise bad_request("HTTP/1.1 is required")
    check_method(request, "GET")
    check_no_body(request)
    if not (_lists(request, "upgrade", "websocket") and _lists(request, "connection", "upgrade")):
        raise HTTPRejection(
            HTTPStatus.UPGRADE_REQUIRED,
            "no_upgrade",
            "a WebSocket upgrade is required",
            [("Upgrade", "websocket")],
        )
    if request.headers.get("sec-websocket-version") != "13":
        raise HTTPRejection(
            HTTPStatus.UPGRADE_REQUIRED,
            "bad_version",
            "WebSocket version 13 is required",
            [("Sec-WebSocket-Version", "13")],
        )
    if not _is_key(request.headers.get("sec-websocket-key", "")):
        raise bad_request("Sec-WebSocket-Key: must be 16 bytes in base64")


def check_method(request: HandshakeRequest, *allowed: str) -> None:
    """Check the method. Raises HTTPRejection (405)."""
    if request.method not in allowed:
        raise HTTPRejection(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "bad_method",
            f"{' or '.join(allowed)} is required",
            [("Allow", ", ".join(allowed))],
        )


def check_no_body(request: HandshakeRequest) -> None:
    """Check that no content follows the head. Raises HTTPRejection (400)."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise bad_request("a request body is not allowed")


def _lists(request: HandshakeRequest, name: str, word: str) -> bool:
    """Return whether a list header (RFC 9110, 5.6.1) has a word, in any case."""
    text = request.headers.get(name, "").lower()
    return text == word or word in {item.strip(" \t") for item in text.split(",")}


def upgrade_response(
    request: HandshakeRequest, subprotocol: str | None = None, extensions: str | None = None
) -> bytes:
    """Return the 101 response to a request that `check_upgrade` accepts; frames follow it.

    `subprotocol`, `extensions`: the selected ones.
    """
    selected = f"Sec-WebSocket-Protocol: {subprotocol}\r\n".encode() if subprotocol else b""
    if extensions:
        selected += f"Sec-WebSocket-Extensions: {extensions}\r\n".encode()
    token = generate_accept_token(request.headers["sec-websocket-key"].encode("ascii"))
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (token, selected)
    )


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def rejection_response(rejection: HTTPRejection) -> bytes:
    """Return the response of a rejection, as bytes."""
    if rejection.response is not None:
        return rejection.response.encode()
    content = f"{rejection.text}\n".encode("ascii", "backslashreplace")
    return HTTPResponse(rejection.status, content, headers=rejection.headers).encode()
