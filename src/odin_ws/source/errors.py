"""What is wrong between Kafka and us."""

from __future__ import annotations

__all__ = ["Refused"]


class Refused(ConnectionError):
    """The broker does not let us in, or is not the one that we trust; says why."""
