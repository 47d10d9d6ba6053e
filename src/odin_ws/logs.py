"""Configures logging: structlog, JSON or text, repeated library lines suppressed."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final

import structlog

__all__ = ["configure_logging"]

# Libraries repeat a line as long as its cause lasts (aiokafka: 40 per second while a broker is
# down); our own lines report changes once.
_REPEAT_SECONDS: Final = 30.0

# A library that writes values into its lines has no equal lines: then all are dropped together.
_MAX_REPEATS: Final = 1000

# Without the local variables that structlog and rich add: they contain secrets and clients'
# messages.
_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logging(level: str, style: str, handler: logging.Handler | None = None) -> None:
    """Log from `level` on (debug, info, warning, error), as `json` or `text`.

    `handler`: takes the lines; without one each line is written to stderr synchronously.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # Our own line about dropped lines bypasses structlog and has the number.
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(("lines",))],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(style),
            ],
        )
    )
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _set_library_levels()


def _renderers(style: str) -> list[Any]:
    if style == "json":
        return [_TRACEBACKS, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    ]


def _set_library_levels() -> None:
    # At info these log every connection and request, and a start that we log too.
    for chatty in ("httpcore", "httpx", "asyncio", "trio_asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Its warnings are about single requests; our own lines have their meaning for the feed.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)


class _Repeats(logging.Filter):
    """Passes each distinct line of a library once per interval."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to print a record; True for our own."""
        if record.name.startswith("odin_ws"):
            return True
        key = record.name, str(record.msg)
        now = time.monotonic()
        if now - self._last.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return False
        if len(self._last) >= _MAX_REPEATS:
            self._last.clear()
        self._last[key] = now
        return True
