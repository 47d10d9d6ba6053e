"""Why a connection did not come about, and whether that can change."""

from __future__ import annotations

import os
import socket
import ssl

__all__ = ["dial_error"]


def dial_error(error: BaseException) -> tuple[str, bool]:
    """What the kernel or the TLS library said, and whether trying again cannot help."""
    root = _root(error)
    # A certificate or a TLS version is as wrong the next time; an end in between is not.
    permanent = isinstance(root, ssl.SSLError) and not isinstance(root, ssl.SSLEOFError)
    return _text(root), permanent


def _text(error: BaseException) -> str:
    """What the kernel means by the number, without the words that an event loop puts before it."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _root(error: BaseException) -> BaseException:
    """The first cause; event loops put their own words around it."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return error if cause is None else cause
