"""Imports structlog without rich, which a server does not use."""

from __future__ import annotations

import sys

__all__ = ["load_structlog"]


def load_structlog() -> None:
    """Import structlog without rich: rich takes 50 ms, and servers print no rich tracebacks.

    structlog imports rich if it is installed. None in `sys.modules` makes Python treat rich as not
    installed; the entry is removed afterwards.
    """
    if "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401, PLC0415
    finally:
        del sys.modules["rich"]
