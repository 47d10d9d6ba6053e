"""Turns the error of a failed connect into a reason, and says whether the error is permanent."""

from __future__ import annotations

import os
import socket
import ssl

__all__ = ["dial_error"]


def dial_error(error: BaseException) -> tuple[str, bool]:
    """Return the message of the kernel or the TLS library, and whether every retry would fail."""
    root = _root(error)
    # A wrong certificate or TLS version fails on every attempt; an EOF in the handshake may not.
    permanent = isinstance(root, ssl.SSLError) and not isinstance(root, ssl.SSLEOFError)
    return _text(root), permanent


def _text(error: BaseException) -> str:
    """Return the text of `error`: of an errno only the kernel's text, without a prefix."""
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _root(error: BaseException) -> BaseException:
    """Return the exception that the event loop wrapped: the first cause of `error`, or `error`."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return error if cause is None else cause
