"""The table of close reasons: complete, unambiguous, and as clients read it."""

from __future__ import annotations

import re

import pytest

from odin_ws.connection.disconnect_reasons import DisconnectReason, Initiator, disconnect_reason_for
from odin_ws.protocol.message_reader import Fault
from tests.wire_decoder import Opcode, frames

# The protocol's table of close codes, and the standard's codes for what breaks the standard.
CODES = {
    "client_closed": 1000,
    "connection_lost": 1006,
    "protocol_error": 1002,
    "binary_frame": 1003,
    "not_utf8": 1007,
    "slow": 1008,
    "flooding": 1008,
    "unfinished": 1008,
    "bad_commands": 1008,
    "message_too_large": 1009,
    "internal_error": 1011,
    "draining": 1012,
    "rebalanced": 1012,
    "not_available": 1013,
    "token_expired": 4401,
    "revoked": 4403,
    "no_pong": 4408,
}

every_close = pytest.mark.parametrize("close", list(DisconnectReason), ids=lambda close: close.name)


def test_codes_and_labels_are_pinned() -> None:
    """Clients decide by the codes, dashboards by the labels."""
    assert {close.value.label: close.value.code for close in DisconnectReason} == CODES


def test_labels_are_unique() -> None:
    """No member of the enumeration is another's alias."""
    assert (
        len({close.value.label for close in DisconnectReason})
        == len(DisconnectReason)
        == len(DisconnectReason.__members__)
    )


def test_reasons_with_one_code_differ_in_their_text() -> None:
    """The close frame's text distinguishes them."""
    assert len({(close.value.code, close.value.text) for close in DisconnectReason}) == len(
        DisconnectReason
    )


@every_close
def test_labels_are_plain_words(close: DisconnectReason) -> None:
    """Queries need no quoting, logs no escapes."""
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", close.value.label)


@every_close
def test_every_reason_has_advice(close: DisconnectReason) -> None:
    """Each close by the server also has a text."""
    assert close.value.advice
    assert bool(close.value.text) is (close.value.by is Initiator.SERVER)


@pytest.mark.parametrize(
    "close",
    [close for close in DisconnectReason if close.value.by is Initiator.SERVER],
    ids=lambda it: it.name,
)
def test_failing_19_a_close_frame_carries_code_and_reason(close: DisconnectReason) -> None:
    """A client library reads the table's code and text from the frame."""
    assert frames(close.value.frame) == [
        (Opcode.CLOSE, (CODES[close.value.label], close.value.text))
    ]


def test_reasons_that_close_without_a_flush() -> None:
    """A slow client, an internal error, and a client that may no longer read."""
    unflushed = {close for close in DisconnectReason if not close.value.flush}
    assert unflushed == {
        DisconnectReason.SLOW,
        DisconnectReason.NO_PONG,
        DisconnectReason.INTERNAL,
        DisconnectReason.REVOKED,
    }


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_each_client_fault_has_its_own_close(fault: Fault) -> None:
    """The server ends the connection with a code that distinguishes the fault."""
    assert disconnect_reason_for(fault).value.by is Initiator.SERVER
    assert [disconnect_reason_for(one) for one in Fault].count(disconnect_reason_for(fault)) == 1
