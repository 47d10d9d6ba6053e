"""The table of reasons is closed, unambiguous, and what clients are told."""

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


def test_the_codes_are_the_protocols() -> None:
    """Clients decide by these codes, dashboards by these labels."""
    assert {close.value.label: close.value.code for close in DisconnectReason} == CODES


def test_a_label_means_one_reason() -> None:
    """Metrics and logs tell every reason from every other; no member is another's alias."""
    assert (
        len({close.value.label for close in DisconnectReason})
        == len(DisconnectReason)
        == len(DisconnectReason.__members__)
    )


def test_reasons_of_one_code_differ_in_their_text() -> None:
    """Where the code alone does not say it, the close frame's reason does."""
    assert len({(close.value.code, close.value.text) for close in DisconnectReason}) == len(
        DisconnectReason
    )


@every_close
def test_a_label_can_stand_in_a_metric(close: DisconnectReason) -> None:
    """Labels are plain words, so that queries need no quoting and logs no escapes."""
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", close.value.label)


@every_close
def test_a_client_learns_what_to_do(close: DisconnectReason) -> None:
    """Every reason has advice, and a text where we are the ones who say it."""
    assert close.value.advice
    assert bool(close.value.text) is (close.value.by is Initiator.SERVER)


@pytest.mark.parametrize(
    "close",
    [close for close in DisconnectReason if close.value.by is Initiator.SERVER],
    ids=lambda it: it.name,
)
def test_failing_19_a_close_frame_carries_code_and_reason(close: DisconnectReason) -> None:
    """A client library reads the code and the text of the table from the frame."""
    assert frames(close.value.frame) == [
        (Opcode.CLOSE, (CODES[close.value.label], close.value.text))
    ]


def test_only_those_who_do_not_or_must_not_read_are_spared_the_flush() -> None:
    """Nor is who met a bug of ours sent its backlog before the close, or may not read any more."""
    unflushed = {close for close in DisconnectReason if not close.value.flush}
    assert unflushed == {
        DisconnectReason.SLOW,
        DisconnectReason.NO_PONG,
        DisconnectReason.INTERNAL,
        DisconnectReason.REVOKED,
    }


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name)
def test_a_clients_fault_has_a_close_of_its_own(fault: Fault) -> None:
    """Each fault ends the connection by us, with a code that tells it from the others."""
    assert disconnect_reason_for(fault).value.by is Initiator.SERVER
    assert [disconnect_reason_for(one) for one in Fault].count(disconnect_reason_for(fault)) == 1
