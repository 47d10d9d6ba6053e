"""Commands that begin in the past, and a replay that takes long."""

from __future__ import annotations

from typing import Any

from trio.testing import wait_all_tasks_blocked

from tests.session.conversation import (
    House,
    Talker,
)

__all__ = ["BEGINNINGS", "NOTHING", "begin_a_long_replay"]


NOTHING = {"odin.trades": {"0": -1}}


# Commands that begin in the past; what each is answered.
BEGINNINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "resume": ("resume", {"channels": ["BTC.trade"], "positions": NOTHING}, "resume_ack"),
    "snapshot": ("subscribe", {"channels": ["BTC.trade"], "snapshot": True}, "subscription_ack"),
    "since": ("subscribe", {"channels": ["BTC.trade"], "since_ms": 0}, "subscription_ack"),
    "reconnect": ("reconnect", {"last_pos": {"BTC.trade": "0-0"}}, "reconnect_ack"),
    "replay": ("replay", {"since": 0}, "replay_complete"),
}


async def begin_a_long_replay(house: House) -> Talker:
    """A client that resumes `BTC.trade`, of which the log has two, and does not answer."""
    client = Talker(house)
    await house.publish("BTC", "BTC")
    house.log_reader.hold()
    client.say("resume", 1, channels=["BTC.trade"], positions=NOTHING)
    await wait_all_tasks_blocked()
    assert client.received == []
    return client
