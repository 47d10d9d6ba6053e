"""For any server message a session yields an item, nothing, or one of two errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws_client import Message, SubscriptionRejected
from odin_ws_client.core.close_codes import Unacceptable
from odin_ws_client.core.counts import Counts
from odin_ws_client.core.offset_tracker import OffsetTracker
from odin_ws_client.core.requests import Requests
from odin_ws_client.core.session import ProtocolSession
from odin_ws_client.core.subscription_set import SubscriptionSet
from tests.client_python.fake import TRADES, message_text

ACK = {
    "type": "subscription_ack",
    "id": 1,
    "subscribed": ["*.trade"],
    "rejected": [],
    "count": 1,
    "positions": {"odin.trades": {"0": 9}},
    "categories": {"trade": "odin.trades"},
}
SCALAR = st.sampled_from(
    [None, True, 0, 1, -1, 1.5, 2**63, 1e300, "", "1", "1-2", "lost", "expiring", "\x00"]
)
JSON = SCALAR | st.sampled_from(
    [
        [],
        [[]],
        {},
        {"": None},
        {"trade": "odin.trades"},
        {"odin.trades": {"0": [1, 2]}},
        {"odin.trades": {"0": 1}},
        {"odin.trades": {"x": 1}},
        {"odin.trades": [1]},
        {"after_ms": "soon"},
        {"after_ms": -1},
        ["*.trade"],
        [{"name": 1, "code": 2, "message": 3}],
    ]
)
FIELDS = {
    "id": JSON,
    "subscribed": JSON,
    "rejected": JSON,
    "positions": JSON,
    "categories": JSON,
    "recovered": JSON,
    "replayed": JSON,
    "lost": JSON,
    "reason": JSON,
    "status": JSON,
    "since": JSON,
    "data": JSON,
    "messages": JSON,
    "seq": JSON,
    "skipped": JSON,
    "channel": JSON,
    "pos": JSON,
    "ts": JSON,
    "code": JSON,
    "message": JSON,
    "retry": JSON,
    "expires_in_ms": JSON,
    "unsubscribed": JSON,
    "count": JSON,
    "forced": JSON,
}
TYPES = st.sampled_from(
    [
        "message",
        "subscription_ack",
        "resume_ack",
        "error",
        "feed",
        "reconnect",
        "replay_incomplete",
        "replay_complete",
        "pong",
        "auth",
        "auth_error",
        "unsubscription_ack",
        "price:update",
        "batch",
    ]
)
SPEECH = JSON | TYPES.flatmap(
    lambda kind: st.fixed_dictionaries({"type": st.just(kind)}, optional=FIELDS)
)


def read(session: ProtocolSession, text: str | bytes, now: float = 0) -> Iterator[Any]:
    """What a session makes of a message."""
    return session.take(text.encode() if isinstance(text, str) else text, now)


def begun(tracker: OffsetTracker, counts: Counts) -> ProtocolSession:
    """A session that has sent its command."""
    session = ProtocolSession(SubscriptionSet([TRADES], tracker), Requests(), counts, 0)
    assert not session.begin()
    assert session.next_command() is not None
    return session


def accepted() -> tuple[ProtocolSession, Counts]:
    """A session whose subscription has taken effect."""
    counts = Counts()
    session = begun(OffsetTracker(), counts)
    list(read(session, orjson.dumps(ACK), 0))
    return session, counts


def test_message_with_unpaired_surrogate_or_huge_number_is_read() -> None:
    """The server passes values on unchanged, so its client must accept them."""
    session, _ = accepted()
    text = (
        '{"seq":1,"ts":7,"type":"message","channel":"BTC.trade","pos":"0-10",'
        r'"data":{"text":"great \ud83d","x":1e400}}'
    )
    (message,) = read(session, text, 1)
    assert isinstance(message, Message)
    assert (message.data, message.text) == ({"text": "great \ud83d", "x": math.inf}, text)
    with pytest.raises(Unacceptable):
        list(read(session, text.replace('"ts":7', '"ts":1e999'), 1))


@given(st.booleans(), st.lists(SPEECH, max_size=5))
def test_any_field_raises_only_protocol_errors(resuming: bool, output: list[Any]) -> None:  # noqa: FBT001 -- drawn
    """No other exception, whatever the fields contain."""
    session = begun(OffsetTracker({"odin.trades": {0: 5}} if resuming else {}), Counts())
    for one in output:
        try:
            list(read(session, orjson.dumps(one), 1))
        except (Unacceptable, SubscriptionRejected):
            return


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 30), st.sampled_from([0, 0, 0, 1, 5])),
        max_size=60,
    )
)
def test_each_offset_is_delivered_once(received: list[tuple[int, int, int]]) -> None:
    """In rising order per partition; the rest is counted as duplicates, and nothing as a gap."""
    session, counts = accepted()
    largest = {0: 9}
    seq = yielded = 0
    for partition, offset, skipped in received:
        seq += 1 + skipped
        more: dict[str, Any] = {"skipped": skipped} if skipped else {}
        items = list(read(session, message_text(seq, f"{partition}-{offset}", **more), 0))
        if offset > largest.get(partition, -1):
            (item,) = items
            assert isinstance(item, Message)
            assert (item.partition, item.offset) == (partition, offset)
            largest[partition] = offset
            yielded += 1
        else:
            assert not items
    assert counts.duplicates == len(received) - yielded
    assert counts.skipped == sum(skipped for _, _, skipped in received)
    assert counts.gaps == 0


@given(st.integers(0, 5), st.integers(-3, 20), st.integers(0, 5))
def test_wrong_number_is_a_gap(before: int, seq: int, skipped: int) -> None:
    """Also a lower number, or one with a wrong `skipped`; the message is not delivered."""
    session, counts = accepted()
    for number in range(1, before + 1):
        list(read(session, message_text(number, f"1-{number}"), 0))
    text = message_text(seq, "1-30", skipped=skipped)
    if seq == before + 1 + skipped:
        assert list(read(session, text, 0))
        return
    with pytest.raises(Unacceptable) as raised:
        list(read(session, text, 0))
    assert not raised.value.permanent
    assert counts.gaps == max(1, seq - before - 1 - skipped)


BODY = '{"channel":"BTC.trade","pos":"0-%d","ts":7,"data":%s}'


def batch(seq: int, *bodies: str, marks: str = "") -> str:
    """A batch as the server writes it."""
    return f'{{"type":"batch","seq":{seq}{marks},"messages":[{",".join(bodies)}]}}'


@pytest.mark.parametrize(
    "value",
    ["{}", '{"a":[{"b":"]}"},"\\\\"]}', r'{"half":"\ud83d","huge":1e400}', '{ "a" :\n1.10 }'],
)
def test_batch_yields_its_messages(value: str) -> None:
    """Each has its own number and text; only the first has the number of skipped messages."""
    session, counts = accepted()
    text = batch(4, BODY % (10, value), BODY % (11, "{}"), marks=',"skipped":3')
    first, second = read(session, text, 1)
    assert isinstance(first, Message)
    assert isinstance(second, Message)
    assert (first.seq, first.skipped, first.offset) == (4, 3, 10)
    assert (second.seq, second.skipped, second.offset) == (5, 0, 11)
    assert first.text == (
        '{"seq":4,"skipped":3,"type":"message","channel":"BTC.trade","pos":"0-10","ts":7,'
        f'"data":{value}}}'
    )
    assert second.text.startswith('{"seq":5,"type":"message","channel":')
    assert counts.skipped == 3


def test_text_of_a_message_in_a_replayed_batch_has_replay() -> None:
    """A batch has the field once for all its messages."""
    session, _ = accepted()
    text = batch(1, BODY % (10, "{}"), BODY % (11, "{}"), marks=',"replay":true')
    for message in read(session, text, 1):
        assert isinstance(message, Message)
        assert message.replay
        assert f'{{"seq":{message.seq},"replay":true,' in message.text


def test_known_messages_of_a_batch_are_duplicates() -> None:
    """They are not delivered, and their numbers count."""
    session, counts = accepted()
    items = list(read(session, batch(1, *(BODY % (offset, "{}") for offset in (8, 9, 10))), 1))
    assert [item.offset for item in items if isinstance(item, Message)] == [10]
    assert counts.duplicates == 2
    assert len(list(read(session, batch(4, BODY % (11, "{}")), 1))) == 1


def test_batch_after_a_gap_is_not_delivered() -> None:
    """The position stays before it, so it comes again on a new connection."""
    session, counts = accepted()
    with pytest.raises(Unacceptable):
        list(read(session, batch(3, BODY % (10, "{}")), 1))
    assert counts.gaps == 2


def test_messages_before_an_invalid_message_of_a_batch_are_delivered() -> None:
    """An invalid message ends the connection."""
    session, _ = accepted()
    items: list[Any] = []
    with pytest.raises(Unacceptable):
        items.extend(read(session, batch(1, BODY % (10, "{}"), '{"channel":"BTC.trade"}'), 1))
    assert len(items) == 1
