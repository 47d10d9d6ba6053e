"""What is wrong between Kafka and us."""

from __future__ import annotations

from aiokafka.errors import KafkaConnectionError

__all__ = ["KafkaUnavailable", "Nonsense", "Refused"]


class Refused(ConnectionError):
    """The broker does not let us in, or is not the one that we trust; says why."""


class Nonsense(KafkaConnectionError):  # type: ignore[misc]  # aiokafka is untyped
    """While it let us in, a broker answered what it should not; `what` is in words."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class KafkaUnavailable(Exception):
    """A broker, or all of them, cannot be used now; the text says which one, where, and why.

    Everything that brokers and the network can do to a request ends in this error.
    """
