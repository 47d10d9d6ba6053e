"""What a run's channels are called."""

from __future__ import annotations

import secrets

from odin_ws.bench.workload import Names, Shape
from odin_ws.catalogue import default_catalogue

__all__ = ["names_for"]


def names_for(shape: Shape) -> Names:
    """Names in the first topics of Odin's catalogue.

    Tokens begin with letters of this run: what was published before is not for it.
    """
    topics = list(default_catalogue().topics.values())[: shape.topics]
    return Names(
        f"B{secrets.token_hex(3)}-",
        [topic.category for topic in topics],
        [topic.name for topic in topics],
    )
