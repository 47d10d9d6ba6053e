"""Every answer is the JSON that docs/protocol.md shows, in both dialects."""

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
    """The field that echoes an id: there is none where the command had none."""
    return {} if command_id is None else {"id": command_id}


@every_id
def test_a_subscription_is_acknowledged(command_id: str | int | None) -> None:
    """Names as they were written, what was rejected and why, and how many patterns there are."""
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
def test_an_unsubscription_is_acknowledged(command_id: str | int | None) -> None:
    """Likewise, with `unsubscribed`."""
    ack = unsubscription_ack(command_id, Dialect.V1, Accepted(["BTC.trade"], [REJECTED], count=0))
    assert json.loads(ack) == {
        "type": "unsubscription_ack",
        **with_id(command_id),
        "unsubscribed": ["BTC.trade"],
        "rejected": [REJECTED_JSON],
        "count": 0,
    }


def test_an_ack_has_its_fields_in_the_protocols_order() -> None:
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
def test_the_original_acks_say_rejected_only_where_there_is_something(
    dialect: Dialect, rejected: list[RejectedName]
) -> None:
    """Clients of the earlier server, which knew no such field, learn of what was rejected."""
    for ack in (
        subscription_ack(None, dialect, Accepted([], rejected, count=0)),
        unsubscription_ack(None, dialect, Accepted([], rejected, count=0)),
    ):
        assert ("rejected" in json.loads(ack)) is (dialect is Dialect.V1 or bool(rejected))


@dialects
def test_positions_are_told_only_where_asked_for(dialect: Dialect) -> None:
    """An offset of -1 and a topic without partitions are told as they are."""
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
    answer = json.loads(subscription_ack(None, dialect, full))
    assert answer["positions"] == {"odin.trades": {"0": -1, "11": 2**62}, "odin.social": {}}
    assert answer["partitions"] == {"odin.trades": [0, 11], "odin.social": []}
    assert answer["categories"] == {"trade": "odin.trades", "social": "odin.social"}
    none = Accepted([], [REJECTED], count=0, positions={}, partitions={}, categories={})
    answer = json.loads(subscription_ack(None, dialect, none))
    assert answer["positions"] == answer["partitions"] == answer["categories"] == {}


@every_id
def test_a_heartbeat_is_answered_with_the_time(command_id: str | int | None) -> None:
    """A client can tell how far its clock is from ours."""
    assert json.loads(pong(command_id, 1_767_609_600_123)) == {
        "type": "pong",
        **with_id(command_id),
        "ts": 1_767_609_600_123,
    }


@every_id
@pytest.mark.parametrize("retry", [False, True])
def test_an_error_says_what_is_wrong_and_whether_to_try_again(
    command_id: str | int | None, *, retry: bool
) -> None:
    """Code, sentence, and the id of the command, where it had one."""
    error = CommandError(
        ErrorCode.INVALID_MESSAGE, "data: an object is needed", command_id, retry=retry
    )
    assert json.loads(error_response(error)) == {
        "type": "error",
        **with_id(command_id),
        "code": "INVALID_MESSAGE",
        "message": "data: an object is needed",
        "retry": retry,
    }


@every_id
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (ErrorCode.NOT_AVAILABLE, "rate_limited"),
        (ErrorCode.RATE_LIMIT_EXCEEDED, "rate_limited"),
        (ErrorCode.INVALID_MESSAGE, "invalid_request"),
        (ErrorCode.TOO_MANY_SUBSCRIPTIONS, "invalid_request"),
    ],
)
def test_a_rejected_reconnect_has_its_own_error(
    command_id: str | int | None, code: ErrorCode, said: str
) -> None:
    """With the codes that the SDK knows; it takes `not_available` as final."""
    error = CommandError(code, "data.last_pos: no", command_id, command="reconnect", retry=True)
    assert json.loads(error_response(error)) == {
        "type": "reconnect_error",
        **with_id(command_id),
        "code": said,
        "message": "data.last_pos: no",
    }


@pytest.mark.parametrize("command", [None, "reconnect"])
def test_an_error_says_when_to_try_again(command: str | None) -> None:
    """On the same connection, in so many milliseconds."""
    error = CommandError(
        ErrorCode.NOT_AVAILABLE, "not now", 1, command=command, retry=True, retry_ms=2500
    )
    assert json.loads(error_response(error))["retry_ms"] == 2500


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_written_as_its_name(code: ErrorCode) -> None:
    """Clients compare texts."""
    assert json.loads(error_response(CommandError(code, "")))["code"] == code.name


# ---- beginnings in the past

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
def test_an_ack_says_what_follows(replayed: Replayed, fields: bytes) -> None:
    """How many messages are replayed, and what is lost and why; `recovered` says if nothing is."""
    assert subscription_ack(1, Dialect.V1, ACCEPTED, replayed) == (
        b'{"type":"subscription_ack","id":1,%b,%b}' % (ACCEPTED_JSON, fields)
    )
    recovered = b"true" if replayed.lost is None else b"false"
    assert resume_ack(1, Dialect.V1, ACCEPTED, replayed) == (
        b'{"type":"resume_ack","id":1,%b,"recovered":%b,%b}' % (ACCEPTED_JSON, recovered, fields)
    )


def test_a_resume_is_acknowledged_as_a_subscription_is() -> None:
    """Rejected names, positions and partitions stand before what follows."""
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
def test_a_reconnect_is_acknowledged(command_id: str | int | None) -> None:
    """In the SDK's words; a count that is not known yet is 0."""
    for messages, said in ((7, 7), (0, 0), (None, 0)):
        assert json.loads(reconnect_ack(command_id, Replayed(messages))) == {
            "type": "reconnect_ack",
            **with_id(command_id),
            "status": "completed",
            "messages_replayed": said,
            "message": "everything missed follows",
        }


def test_a_reconnect_that_lost_something_says_so() -> None:
    """What, and why."""
    assert reconnect_ack(1, Replayed(7, LOST)) == (
        b'{"type":"reconnect_ack","id":1,"status":"incomplete","messages_replayed":7,'
        b'"message":"some is lost: expired",%b}' % LOST_JSON
    )


def test_the_end_of_a_replay_is_told_with_its_count() -> None:
    """And with what was lost on the way, or is not kept any more."""
    assert replay_complete(1, 5) == b'{"type":"replay_complete","id":1,"count":5}'
    assert replay_complete(None, 0) == b'{"type":"replay_complete","count":0}'
    assert replay_incomplete("x", 5, LOST) == (
        b'{"type":"replay_incomplete","id":"x","count":5,%b}' % LOST_JSON
    )
    assert resend_incomplete(1, 5, (3, 9)) == (
        b'{"type":"replay_incomplete","id":1,"count":5,"missing":[3,9]}'
    )


# ---- notices: nobody asked, so there is no id


def test_notices_tell_of_the_feed() -> None:
    """That it stalled or is back, how far all was sent, and what was deleted before it was read."""
    assert feed_notice("stalled", 1_767_609_600_123) == (
        b'{"type":"feed","status":"stalled","since":1767609600123}'
    )
    assert positions_notice({"odin.trades": {0: -1, 11: 5}}) == (
        b'{"type":"positions","positions":{"odin.trades":{"0":-1,"11":5}}}'
    )
    assert lost_notice(LOST) == b'{"type":"feed","status":"lost",%b}' % LOST_JSON


def test_an_advice_says_when_to_come_back() -> None:
    """In milliseconds."""
    assert reconnect_advice(1840) == (
        b'{"type":"reconnect","data":{"after_ms":1840,"reason":"draining"}}'
    )
