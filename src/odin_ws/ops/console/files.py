"""The files of the console's page: our own and uPlot, from the package, with a strict policy."""

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

# Paths that a page needs before it can send a token; the files have nothing confidential.
CONSOLE_PATHS: Final = frozenset(
    f"/console/{path.relative_to(_FOLDER).as_posix()}"
    for path in _FOLDER.rglob("*")
    if path.suffix in _TYPES and path.name != _INDEX
)

# A name or an IPv4 address: the forms that a policy can contain.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)

_HEADERS: Final = {
    # Asked for again each time: a new version of the server brings new files.
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@attrs.frozen
class StaticFile:
    """A file in memory. `etag`: of its content."""

    content: bytes
    media_type: str
    etag: str


@cache
def _read(name: str) -> StaticFile:
    content = (_FOLDER / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return StaticFile(content, _TYPES[Path(name).suffix], f'"{digest}"')


def content_security_policy(host: str, subscribers_host: str) -> str:
    """The policy of the page: files of this port, no inline code, no other host.

    Args:
        host: of the request's Host header, as `host_name` has it. The page may connect to any port
            of it, for the subscribers' port may be forwarded to any.
        subscribers_host: where the subscribers' port listens; empty for everywhere.
    """
    hosts = sorted({host, subscribers_host} - {""})
    # An IPv6 address cannot be named in a policy; a page there may connect anywhere.
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
    """The console's page."""
    policy = content_security_policy(
        host_name(request.headers.get("host", "")), host_name(subscribers_host)
    )
    return _answer(request, _INDEX, {"Content-Security-Policy": policy})


def static_file(request: Request) -> Response:
    """A file that the page needs; the caller has checked that it is one of CONSOLE_PATHS."""
    name = request.url.path.removeprefix("/console/")
    return _answer(request, name, {"Content-Security-Policy": "default-src 'none'"})


def _answer(request: Request, name: str, more: Mapping[str, str]) -> Response:
    file = _read(name)
    headers = {**_HEADERS, **more, "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
