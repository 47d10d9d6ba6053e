"""Libraries that a server loads in a way of its own."""

from __future__ import annotations

import sys

__all__ = ["load_structlog"]


def load_structlog() -> None:
    """Load structlog without rich, which it loads wherever it is installed.

    A server prints no tracebacks of rich, and rich takes 50 ms. None in `sys.modules` tells Python
    that there is no such module; afterwards there is.
    """
    if "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401, PLC0415
    finally:
        del sys.modules["rich"]
