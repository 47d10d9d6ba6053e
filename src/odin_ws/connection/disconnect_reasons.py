"""The table of disconnect reasons: close code, metric label, text, advice to the client.

Close frames, metric labels, log fields and docs/protocol.md use it.
"""

from __future__ import annotations

from enum import Enum, StrEnum
from functools import cached_property
from typing import Final

import attrs

from odin_ws.protocol.frames import close_frame
from odin_ws.protocol.message_reader import Fault

__all__ = ["Disconnect", "DisconnectReason", "Initiator", "disconnect_reason_for"]


class Initiator(StrEnum):
    """The party that ended the connection: the label `initiated_by`."""

    SERVER = "server"
    CLIENT = "client"
    NETWORK = "network"


@attrs.frozen(slots=False)
class Disconnect:
    """One disconnect reason."""

    code: int
    label: str
    """The name in metrics and logs."""
    by: Initiator
    text: str
    """The reason in the close frame."""
    advice: str
    """What the client should do."""
    flush: bool = True
    """True if queued messages are sent first."""

    @cached_property
    def frame(self) -> bytes:
        """The close frame, the same bytes for all clients."""
        return close_frame(self.code, self.text)


class DisconnectReason(Enum):
    """All disconnect reasons."""

    CLIENT = Disconnect(1000, "client_closed", Initiator.CLIENT, "", "nothing: the client closed")
    LOST = Disconnect(1006, "connection_lost", Initiator.NETWORK, "", "resume with back-off")
    PROTOCOL = Disconnect(
        1002, "protocol_error", Initiator.SERVER, "not a valid WebSocket frame", "fix the client"
    )
    BINARY = Disconnect(
        1003, "binary_frame", Initiator.SERVER, "commands are text frames", "fix the client"
    )
    NOT_UTF8 = Disconnect(
        1007, "not_utf8", Initiator.SERVER, "a text frame was not UTF-8", "fix the client"
    )
    SLOW = Disconnect(
        1008,
        "slow",
        Initiator.SERVER,
        "slow: messages waited too long to be taken",
        "read faster or subscribe to less, then resume",
        flush=False,
    )
    FLOODING = Disconnect(
        1008,
        "flooding",
        Initiator.SERVER,
        "flooding: too many commands, pings or pongs",
        "slow down, then resume",
    )
    UNFINISHED = Disconnect(
        1008,
        "unfinished",
        Initiator.SERVER,
        "a fragmented command took too long",
        "send commands whole, then resume",
    )
    BAD_COMMANDS = Disconnect(
        1008,
        "bad_commands",
        Initiator.SERVER,
        "too many bad messages in a row",
        "fix the client, then resume",
    )
    TOO_LARGE = Disconnect(
        1009,
        "message_too_large",
        Initiator.SERVER,
        "message too large, or in too many frames",
        "fix the client",
    )
    INTERNAL = Disconnect(
        1011,
        "internal_error",
        Initiator.SERVER,
        "internal error",
        "resume with back-off",
        flush=False,
    )
    DRAINING = Disconnect(
        1012, "draining", Initiator.SERVER, "the server is restarting", "resume, on any instance"
    )
    REBALANCED = Disconnect(
        1012,
        "rebalanced",
        Initiator.SERVER,
        "partitions have moved to another instance",
        "resume, on the instance that serves them",
    )
    NOT_AVAILABLE = Disconnect(
        1013,
        "not_available",
        Initiator.SERVER,
        "the subscription cannot begin now",
        "resume with back-off",
    )
    TOKEN_EXPIRED = Disconnect(
        4401,
        "token_expired",
        Initiator.SERVER,
        "the token has expired",
        "get a new token, then resume",
    )
    REVOKED = Disconnect(
        4403, "revoked", Initiator.SERVER, "access was revoked", "stop", flush=False
    )
    NO_PONG = Disconnect(
        4408,
        "no_pong",
        Initiator.SERVER,
        "nothing was received for too long",
        "resume",
        flush=False,
    )


# The disconnect reasons for faults in what a client sends.
_BY_FAULT: Final = {
    Fault.BROKEN: DisconnectReason.PROTOCOL,
    Fault.NOT_UTF8: DisconnectReason.NOT_UTF8,
    Fault.TOO_LARGE: DisconnectReason.TOO_LARGE,
}


def disconnect_reason_for(fault: Fault) -> DisconnectReason:
    """Return the disconnect reason for a fault of the client."""
    return _BY_FAULT[fault]
