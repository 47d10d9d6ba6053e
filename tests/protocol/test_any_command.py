"""Any input is decoded to a command or rejected with a code and a message."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from odin_ws.protocol.command_parser import decode_command
from odin_ws.protocol.commands import (
    Command,
    Heartbeat,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
)
from odin_ws.protocol.errors import CommandError, ErrorCode
from tests.protocol.commands import CATALOGUE

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["BTC.trade", "*.*", "TRADING", "odin.trades", "BTC"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=10,
)
near_positions = st.dictionaries(
    st.sampled_from(["odin.trades", "odin.nope", "BTC.trade", "*.trade"]) | st.text(max_size=5),
    st.dictionaries(
        st.sampled_from(["0", "-1", "01", "2147483648", "\u0661"]) | st.text(max_size=3),
        st.integers() | json_values,
        max_size=3,
    )
    | st.sampled_from(["0-1", "1-", "-1", "0-9223372036854775808", "1-2-3"])
    | json_values,
    max_size=3,
)
near_commands = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["subscribe", "unsubscribe", "heartbeat", "resume", "reconnect", "replay"]
        )
        | json_values
    },
    optional={
        "id": json_values,
        "data": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ["channels", "topics", "bundles", "tokens"],
                st.lists(st.text(max_size=10) | json_values, max_size=3) | json_values,
            )
            | dict.fromkeys(["positions", "last_pos", "last_offset"], near_positions | json_values)
            | dict.fromkeys(
                ["delivery", "snapshot", "since_ms", "from", "to", "since", "client_id"],
                st.integers(-2, 5) | json_values,
            ),
        )
        | json_values,
    },
)
# Commands whose data has only known fields.
fitting_commands = st.one_of(
    *(
        st.fixed_dictionaries(
            {
                "type": st.just(kind),
                "data": st.fixed_dictionaries({}, optional=dict.fromkeys(fields, values)),
            }
        )
        for kind, fields, values in [
            ("resume", ["channels", "positions"], near_positions | st.just(["BTC.trade"])),
            ("reconnect", ["last_pos"], near_positions),
            ("reconnect", ["last_offset"], near_positions),
            ("replay", ["from", "to"], st.integers(-2, 5) | json_values),
            ("replay", ["since"], st.integers() | json_values),
        ]
    )
)


def assert_command_or_rejection(text: str) -> None:
    """Assert that the text decodes to a command or is rejected with a code and a message."""
    outcome: Command | CommandError
    try:
        outcome = decode_command(text, CATALOGUE)
    except CommandError as error:
        outcome = error
    if isinstance(outcome, CommandError):
        assert isinstance(outcome.code, ErrorCode)
        assert outcome.message
        assert outcome.retry is False
    else:
        assert isinstance(
            outcome, Subscribe | Resume | Reconnect | Resend | Unsubscribe | Heartbeat
        )


@given(st.text())
def test_any_text_is_command_or_rejected(text: str) -> None:
    """`decode_command` raises only `CommandError`."""
    assert_command_or_rejection(text)


@given(json_values)
def test_any_json_is_command_or_rejected(message: object) -> None:
    """NaN and lone surrogates are included."""
    assert_command_or_rejection(json.dumps(message))
    assert_command_or_rejection(json.dumps(message, ensure_ascii=False))


@given(near_commands | fitting_commands)
def test_nearly_valid_command_is_command_or_rejected(message: dict[str, Any]) -> None:
    """Known fields have invalid values."""
    assert_command_or_rejection(json.dumps(message))
