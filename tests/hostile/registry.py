"""All kinds of hostile clients, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.hostile import kinds
from tests.hostile.stream_kinds import AT_ONCE_STREAMS, STREAM_KINDS

__all__ = ["AT_ONCE", "KINDS", "ON_OPS_PORT"]

KINDS: Final[Mapping[str, kinds.Visit]] = {
    **kinds.KINDS,
    **{visit.__name__: visit for visit in STREAM_KINDS},
}

# Kinds that visit the ops port.
ON_OPS_PORT: Final = kinds.ON_OPS_PORT

# Kinds that reconnect within about a second after they were closed.
AT_ONCE: Final = kinds.AT_ONCE | AT_ONCE_STREAMS
