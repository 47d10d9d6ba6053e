"""The files of the console's page: its own and uPlot's, from the package, with a strict policy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final

import attrs
from starlette.requests import Request
from starlette.responses import Response

from odin_ws.address import host_name

__all__ = ["CONSOLE_PATHS", "StaticFile", "console_page", "content_security_policy", "static_file"]

_FOLDER: Final = Path(__file__).parent / "static"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_INDEX: Final = "index.html"

# Paths that need no token: a page loads them before it can send one. No file is confidential.
CONSOLE_PATHS: Final = frozenset(
    f"/console/{path.relative_to(_FOLDER).as_posix()}"
    for path in _FOLDER.rglob("*")
    if path.suffix in _TYPES and path.name != _INDEX
)

# A name or an IPv4 address: a policy cannot contain other forms.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)

_HEADERS: Final = {
    # Browsers request each file again: a new version of the server has new files.
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@attrs.frozen
class StaticFile:
    """A file in memory. `etag`: the entity tag, computed from the content."""

    content: bytes
    media_type: str
    etag: str


@cache
def _read(name: str) -> StaticFile:
    content = (_FOLDER / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return StaticFile(content, _TYPES[Path(name).suffix], f'"{digest}"')


def content_security_policy(host: str, subscribers_host: str) -> str:
    """Return the policy of the page: files of this port, no inline code, no other host.

    Args:
        host: the host of the request's Host header, as returned by `host_name`. The page may
            connect to any port of this host, because the subscribers' port may be forwarded to any
            port.
        subscribers_host: the host of the subscribers' port; empty for every interface.
    """
    hosts = sorted({host, subscribers_host} - {""})
    # A policy cannot contain an IPv6 address; a page of such a host may connect anywhere.
    nameable = all(_HOST.fullmatch(name) for name in hosts)
    schemes = ("ws", "wss")
    ports = [f"{scheme}://{name}:*" for name in hosts for scheme in schemes]
    anywhere = [f"{scheme}:" for scheme in schemes]
    connect = " ".join(["'self'", *(ports if nameable else anywhere)])
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def console_page(request: Request, subscribers_host: str) -> Response:
    """Return the console's page."""
    policy = content_security_policy(
        host_name(request.headers.get("host", "")), host_name(subscribers_host)
    )
    return _response(request, _INDEX, {"Content-Security-Policy": policy})


def static_file(request: Request) -> Response:
    """Return a file of the page; the caller has checked that the path is one of CONSOLE_PATHS."""
    name = request.url.path.removeprefix("/console/")
    return _response(request, name, {"Content-Security-Policy": "default-src 'none'"})


def _response(request: Request, name: str, more: Mapping[str, str]) -> Response:
    file = _read(name)
    headers = {**_HEADERS, **more, "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
