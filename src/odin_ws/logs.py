"""Configures logging: structlog, JSON or text, repeated library lines suppressed."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final

import structlog

__all__ = ["configure_logging"]

# A library repeats a line as long as its cause lasts (aiokafka: 40 a second while a broker is
# away); our own lines say once what changed.
_REPEAT_SECONDS: Final = 30.0

# A library that writes values into its lines has no two alike: then they are forgotten together.
_MAX_REPEATS: Final = 1000

# Without the values of local variables, which structlog and rich add: among them are secrets and
# what subscribers send.
_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logging(level: str, style: str, handler: logging.Handler | None = None) -> None:
    """Log from `level` on (debug, info, warning, error), as `json` or `text`.

    `handler`: takes the lines; without one each is printed on stderr before the program goes on.
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
    renderers: list[Any] = (
        [_TRACEBACKS, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # Our own line about dropped lines comes past structlog, and says how many.
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(("lines",))],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # At info these speak of every connection and request, and of a start that we tell of too.
    for chatty in ("httpcore", "httpx", "asyncio", "trio_asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Its warnings are about single requests; what they mean for the feed we say ourselves.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)


class _Repeats(logging.Filter):
    """Lets each line of a library through once in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print a record; ours always."""
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
