"""Each response is the JSON that docs/protocol.md shows, in both dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from odin_ws.log_reader import Span
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.responses import (
    Accepted,
    Lost,
    Replayed,
    error_response,
    feed_notice,
    lost_notice,
    pong,
    positions_notice,
    reconnect_ack,
    reconnect_advice,
    replay_complete,
    replay_incomplete,
    resend_incomplete,
    resume_ack,
    subscription_ack,
    unsubscription_ack,
)
from odin_ws.protocol.selection import RejectedName

REJECTED = RejectedName("BTC.foo", ErrorCode.INVALID_CHANNEL, "unknown category 'foo'")
REJECTED_JSON = {
    "name": "BTC.foo",
    "code": "INVALID_CHANNEL",
    "message": "unknown category 'foo'",
}

every_id = pytest.mark.parametrize("command_id", [None, "", "a", 0, -1, 2**63, 'é"\n'])
dialects = pytest.mark.parametrize("dialect", list(Dialect))


def with_id(command_id: str | int | None) -> dict[str, Any]:
    """Return the response's `id` field; a command without an id gets a response without one."""
    return {} if command_id is None else {"id": command_id}


@every_id
def test_subscription_ack_lists_subscribed_rejected_and_count(command_id: str | int | None) -> None:
    """The ack has the names as the client wrote them, each rejection, and the pattern count."""
    ack = subscription_ack(
        command_id, Dialect.V1, Accepted(["BTC.trade", "TRADING"], [REJECTED], count=4)
    )
    assert json.loads(ack) == {
        "type": "subscription_ack",
        **with_id(command_id),
        "subscribed": ["BTC.trade", "TRADING"],
        "rejected": [REJECTED_JSON],
        "count": 4,
    }


@every_id
def test_unsubscription_ack_lists_unsubscribed_rejected_and_count(
    command_id: str | int | None,
) -> None:
    """The fields are those of a `subscription_ack`, with `unsubscribed`."""
    ack = unsubscription_ack(command_id, Dialect.V1, Accepted(["BTC.trade"], [REJECTED], count=0))
    assert json.loads(ack) == {
        "type": "unsubscription_ack",
        **with_id(command_id),
        "unsubscribed": ["BTC.trade"],
        "rejected": [REJECTED_JSON],
        "count": 0,
    }


def test_subscription_ack_fields_are_in_documented_order() -> None:
    """People read these texts too."""
    accepted = Accepted(
        ["BTC.trade"],
        [],
        count=1,
        positions={"odin.trades": {0: 5}},
        partitions={"odin.trades": [0]},
        categories={"trade": "odin.trades"},
    )
    assert subscription_ack(1, Dialect.V1, accepted) == (
        b'{"type":"subscription_ack","id":1,"subscribed":["BTC.trade"],"rejected":[],"count":1,'
        b'"positions":{"odin.trades":{"0":5}},"partitions":{"odin.trades":[0]},'
        b'"categories":{"trade":"odin.trades"}}'
    )


@dialects
@pytest.mark.parametrize("rejected", [[], [REJECTED]])
def test_v0_ack_has_rejected_only_if_a_name_was_rejected(
    dialect: Dialect, rejected: list[RejectedName]
) -> None:
    """The earlier server's acks had no such field, so v0 adds it only when it is needed."""
    for ack in (
        subscription_ack(None, dialect, Accepted([], rejected, count=0)),
        unsubscription_ack(None, dialect, Accepted([], rejected, count=0)),
    ):
        assert ("rejected" in json.loads(ack)) is (dialect is Dialect.V1 or bool(rejected))


@dialects
def test_ack_has_positions_only_if_requested(dialect: Dialect) -> None:
    """An offset of -1 and a topic without partitions are written as they are."""
    plain = subscription_ack(None, dialect, Accepted([], [], count=0))
    assert not {"positions", "partitions", "categories"} & json.loads(plain).keys()
    full = Accepted(
        [],
        [],
        count=0,
        positions={"odin.trades": {0: -1, 11: 2**62}, "odin.social": {}},
        partitions={"odin.trades": [0, 11], "odin.social": []},
        categories={"trade": "odin.trades", "social": "odin.social"},
    )
    response = json.loads(subscription_ack(None, dialect, full))
    assert response["positions"] == {"odin.trades": {"0": -1, "11": 2**62}, "odin.social": {}}
    assert response["partitions"] == {"odin.trades": [0, 11], "odin.social": []}
    assert response["categories"] == {"trade": "odin.trades", "social": "odin.social"}
    none = Accepted([], [REJECTED], count=0, positions={}, partitions={}, categories={})
    response = json.loads(subscription_ack(None, dialect, none))
    assert response["positions"] == response["partitions"] == response["categories"] == {}


@every_id
def test_pong_has_server_time(command_id: str | int | None) -> None:
    """A client can compare its clock with the server's."""
    assert json.loads(pong(command_id, 1_767_609_600_123)) == {
        "type": "pong",
        **with_id(command_id),
        "ts": 1_767_609_600_123,
    }


@every_id
@pytest.mark.parametrize("retry", [False, True])
def test_error_has_code_message_retry_and_command_id(
    command_id: str | int | None, *, retry: bool
) -> None:
    """`id` is there if the command had one."""
    error = CommandError(
        ErrorCode.INVALID_MESSAGE, "data: must be an object", command_id, retry=retry
    )
    assert json.loads(error_response(error)) == {
        "type": "error",
        **with_id(command_id),
        "code": "INVALID_MESSAGE",
        "message": "data: must be an object",
        "retry": retry,
    }


@every_id
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (ErrorCode.NOT_AVAILABLE, "rate_limited"),
        (ErrorCode.RATE_LIMIT_EXCEEDED, "rate_limited"),
        (ErrorCode.INVALID_MESSAGE, "invalid_request"),
        (ErrorCode.TOO_MANY_SUBSCRIPTIONS, "invalid_request"),
    ],
)
def test_rejected_reconnect_gets_reconnect_error(
    command_id: str | int | None, code: ErrorCode, text: str
) -> None:
    """The codes are those that the SDK knows; it treats `not_available` as final."""
    error = CommandError(code, "data.last_pos: no", command_id, command="reconnect", retry=True)
    assert json.loads(error_response(error)) == {
        "type": "reconnect_error",
        **with_id(command_id),
        "code": text,
        "message": "data.last_pos: no",
    }


@pytest.mark.parametrize("command", [None, "reconnect"])
def test_error_with_retry_delay_has_retry_ms(command: str | None) -> None:
    """The client may repeat the command on the same connection after that time."""
    error = CommandError(
        ErrorCode.NOT_AVAILABLE, "not now", 1, command=command, retry=True, retry_ms=2500
    )
    assert json.loads(error_response(error))["retry_ms"] == 2500


@pytest.mark.parametrize("code", list(ErrorCode))
def test_error_code_is_written_as_its_name(code: ErrorCode) -> None:
    """Clients compare the names."""
    assert json.loads(error_response(CommandError(code, "")))["code"] == code.name


# ---- replays

ACCEPTED = Accepted(["BTC.trade"], [], count=1)
LOST = Lost({"odin.trades": {0: Span(3, 9), 11: Span(0, 0)}}, "expired")
LOST_JSON = b'"lost":{"odin.trades":{"0":[3,9],"11":[0,0]}},"reason":"expired"'
ACCEPTED_JSON = b'"subscribed":["BTC.trade"],"rejected":[],"count":1'


@pytest.mark.parametrize(
    ("replayed", "fields"),
    [
        (Replayed(7), b'"replayed":7'),
        (Replayed(0), b'"replayed":0'),
        (Replayed(None), b'"replayed":null'),
        (Replayed(7, LOST), b'"replayed":7,' + LOST_JSON),
        (Replayed(None, LOST), b'"replayed":null,' + LOST_JSON),
    ],
    ids=["some", "none", "not known yet", "lost", "lost and not known yet"],
)
def test_ack_has_replayed_count_and_lost_ranges(replayed: Replayed, fields: bytes) -> None:
    """`replayed` counts the messages that follow; `recovered` is true if no range is lost."""
    assert subscription_ack(1, Dialect.V1, ACCEPTED, replayed) == (
        b'{"type":"subscription_ack","id":1,%b,%b}' % (ACCEPTED_JSON, fields)
    )
    recovered = b"true" if replayed.lost is None else b"false"
    assert resume_ack(1, Dialect.V1, ACCEPTED, replayed) == (
        b'{"type":"resume_ack","id":1,%b,"recovered":%b,%b}' % (ACCEPTED_JSON, recovered, fields)
    )


def test_resume_ack_has_fields_of_subscription_ack() -> None:
    """Rejected names, positions and partitions come before the replay's fields."""
    accepted = Accepted(
        ["BTC.trade"],
        [REJECTED],
        count=1,
        positions={"odin.trades": {0: 5}},
        partitions={"odin.trades": [0]},
        categories={"trade": "odin.trades"},
    )
    ack = json.loads(resume_ack("r", Dialect.V1, accepted, Replayed(0)))
    assert list(ack) == [
        "type",
        "id",
        "subscribed",
        "rejected",
        "count",
        "positions",
        "partitions",
        "categories",
        "recovered",
        "replayed",
    ]
    assert ack["rejected"] == [REJECTED_JSON]
    assert ack["positions"] == {"odin.trades": {"0": 5}}


@every_id
def test_reconnect_ack_has_replayed_count(command_id: str | int | None) -> None:
    """The fields are those that the SDK reads; an unknown count is written as 0."""
    for messages, text in ((7, 7), (0, 0), (None, 0)):
        assert json.loads(reconnect_ack(command_id, Replayed(messages))) == {
            "type": "reconnect_ack",
            **with_id(command_id),
            "status": "completed",
            "messages_replayed": text,
            "message": "all missed messages follow",
        }


def test_reconnect_ack_with_lost_range_is_incomplete() -> None:
    """The ack names the lost ranges and the reason."""
    assert reconnect_ack(1, Replayed(7, LOST)) == (
        b'{"type":"reconnect_ack","id":1,"status":"incomplete","messages_replayed":7,'
        b'"message":"messages are lost: expired",%b}' % LOST_JSON
    )


def test_end_of_replay_has_count_and_lost_ranges() -> None:
    """A resend names the sequence numbers that the server no longer keeps."""
    assert replay_complete(1, 5) == b'{"type":"replay_complete","id":1,"count":5}'
    assert replay_complete(None, 0) == b'{"type":"replay_complete","count":0}'
    assert replay_incomplete("x", 5, LOST) == (
        b'{"type":"replay_incomplete","id":"x","count":5,%b}' % LOST_JSON
    )
    assert resend_incomplete(1, 5, (3, 9)) == (
        b'{"type":"replay_incomplete","id":1,"count":5,"missing":[3,9]}'
    )


# ---- notices: they answer no command, so they have no id


def test_notices_have_feed_status_positions_and_lost_ranges() -> None:
    """`positions` has the offset up to which all records were sent, for each partition."""
    assert feed_notice("stalled", 1_767_609_600_123) == (
        b'{"type":"feed","status":"stalled","since":1767609600123}'
    )
    assert positions_notice({"odin.trades": {0: -1, 11: 5}}) == (
        b'{"type":"positions","positions":{"odin.trades":{"0":-1,"11":5}}}'
    )
    assert lost_notice(LOST) == b'{"type":"feed","status":"lost",%b}' % LOST_JSON


def test_reconnect_advice_has_delay_in_ms() -> None:
    """The client waits `after_ms` and then connects again."""
    assert reconnect_advice(1840) == (
        b'{"type":"reconnect","data":{"after_ms":1840,"reason":"draining"}}'
    )
