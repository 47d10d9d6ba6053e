"""Every answer is the JSON that docs/protocol.md shows, in both dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from odin_ws.protocol.answers import (
    Accepted,
    error_answer,
    pong,
    subscription_ack,
    unsubscription_ack,
)
from odin_ws.protocol.envelope import Dialect
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.selection import Rejection

REJECTED = Rejection("BTC.foo", ErrorCode.INVALID_CHANNEL, "unknown category 'foo'")
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
    """Names as they were written, what was refused and why, and how many patterns there are."""
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
    dialect: Dialect, rejected: list[Rejection]
) -> None:
    """Clients of the earlier server, which knew no such field, learn of what was refused."""
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
    assert json.loads(error_answer(error)) == {
        "type": "error",
        **with_id(command_id),
        "code": "INVALID_MESSAGE",
        "message": "data: an object is needed",
        "retry": retry,
    }


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_is_written_as_its_name(code: ErrorCode) -> None:
    """Clients compare texts."""
    assert json.loads(error_answer(CommandError(code, "")))["code"] == code.name
