"""Commands that begin in the past, and a replay that waits for the log reader."""

from __future__ import annotations

from typing import Any

from trio.testing import wait_all_tasks_blocked

from tests.session.conversation import (
    FakeClient,
    Harness,
)

__all__ = ["BEGINNINGS", "NOTHING", "begin_long_replay"]


NOTHING = {"odin.trades": {"0": -1}}


# Commands that begin in the past, and the type of their response.
BEGINNINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "resume": ("resume", {"channels": ["BTC.trade"], "positions": NOTHING}, "resume_ack"),
    "snapshot": ("subscribe", {"channels": ["BTC.trade"], "snapshot": True}, "subscription_ack"),
    "since": ("subscribe", {"channels": ["BTC.trade"], "since_ms": 0}, "subscription_ack"),
    "reconnect": ("reconnect", {"last_pos": {"BTC.trade": "0-0"}}, "reconnect_ack"),
    "replay": ("replay", {"since": 0}, "replay_complete"),
}


async def begin_long_replay(harness: Harness) -> FakeClient:
    """Start a resume of two records of `BTC.trade`, with the log reader held; return its client."""
    client = FakeClient(harness)
    await harness.publish("BTC", "BTC")
    harness.log_reader.hold()
    client.send("resume", 1, channels=["BTC.trade"], positions=NOTHING)
    await wait_all_tasks_blocked()
    assert client.received == []
    return client
