"""Kafka errors and their texts."""

from __future__ import annotations

import attrs
from aiokafka.errors import KafkaConnectionError, for_code

from odin_ws.records import InvalidBatch

__all__ = [
    "AuthenticationFailed",
    "BatchDecodeError",
    "KafkaUnavailable",
    "RequestUnsupported",
    "UnexpectedResponse",
    "error_text",
]


class AuthenticationFailed(ConnectionError):
    """The broker rejects the credentials or is not trusted; the text has the reason."""


class UnexpectedResponse(KafkaConnectionError):  # type: ignore[misc]  # aiokafka is untyped
    """A broker's response is unusable, before or during authentication; `what` describes it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class KafkaUnavailable(Exception):
    """A broker, or all of them, cannot be used now; the text names it, its address and the reason.

    Every failure of brokers and of the network raises this error.
    """


class RequestUnsupported(KafkaUnavailable):
    """The broker is up, but supports no version of this request that odin-ws sends."""


@attrs.define
class BatchDecodeError(Exception):
    """A whole batch cannot be decoded.

    `cost`: the bytes that were expanded before the failure; see batch_records.ENOUGH.
    """

    reason: InvalidBatch
    cost: int = 0


# Texts for errors with unclear names, as in Kafka's documentation.
_TEXTS = {
    3: "the topic or partition does not exist",
    5: "no leader",
    29: "not authorized to read the topic (READ)",
    30: "not authorized to join the consumer group (READ on the group)",
    31: "not authorized by the cluster",
    # Codes that aiokafka does not know.
    -1: "UNKNOWN_SERVER_ERROR (-1)",
    70: "FETCH_SESSION_ID_NOT_FOUND (70)",
    71: "INVALID_FETCH_SESSION_EPOCH (71)",
    74: "FENCED_LEADER_EPOCH (74)",
    75: "UNKNOWN_LEADER_EPOCH (75)",
    76: "UNSUPPORTED_COMPRESSION_TYPE (76)",
    78: "OFFSET_NOT_AVAILABLE (78)",
    100: "UNKNOWN_TOPIC_ID (100)",
    103: "INCONSISTENT_TOPIC_ID (103)",
    106: "FETCH_SESSION_TOPIC_ID_ERROR (106)",
}


def error_text(code: int, *, denied: str | None = None) -> str:
    """Return the text of a Kafka error code. `denied`: the text for a missing topic permission."""
    if code == 29 and denied is not None:  # noqa: PLR2004 -- TOPIC_AUTHORIZATION_FAILED
        return denied
    # aiokafka's names, such as NOT_LEADER_FOR_PARTITION; it lacks the newest codes.
    name = getattr(for_code(code), "message", None)
    return _TEXTS.get(code) or f"{name or 'error'} ({code})"
