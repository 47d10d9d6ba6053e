"""What a replay holds of the history while it sends."""

# ruff: noqa: ARG001 -- a clock among the arguments is the one the test runs under

from __future__ import annotations

import trio
from trio.testing import MockClock

from odin_ws.hub import Hub
from odin_ws.resume.replay_limits import ReplayStats
from odin_ws.resume.replay_sender import ReplaySender
from odin_ws.resume.replay_window import ReplayWindow
from tests.hub.hub_driver import Client, make_hub


class SlowClient(Client):
    """A client that receives what it was sent after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def drained(self) -> None:
        """See ReplayClient."""
        await trio.sleep(self.seconds)

    @property
    def written(self) -> int:
        """See WindowClient."""
        return sum(map(len, self.writes))

    def acknowledged(self) -> int:
        """See WindowClient."""
        return self.written

    def close_as_slow(self) -> None:
        """See WindowClient."""
        raise AssertionError


def sender_of(hub: Hub, seconds: float) -> ReplaySender:
    """The sender of a replay to a client that takes so long to receive a chunk."""
    return ReplaySender(hub, SlowClient(seconds), ReplayStats(), ReplayWindow())


async def test_pin_of_an_earlier_scan_is_released(autojump_clock: MockClock) -> None:
    """A replay that needs another scan does not hold the history for the first one."""
    hub = make_hub()
    sender, pins = sender_of(hub, 0), [hub.history.pin() for _ in range(2)]
    for pin in pins:
        sender.pin(pin)
    assert [hub.history.holds(pin) for pin in pins] == [False, True]
    # A scan that ended without reaching the history has none.
    sender.pin(None)
    assert not hub.history.holds(pins[1])


async def test_pin_is_released_at_the_end(autojump_clock: MockClock) -> None:
    """However the replay ends."""
    hub = make_hub()
    sender, pin = sender_of(hub, 0), hub.history.pin()
    sender.pin(pin)
    await sender.drained()
    assert hub.history.holds(pin)
    sender.end_of_replay()
    assert not hub.history.holds(pin)


async def test_slow_client_does_not_hold_the_history(autojump_clock: MockClock) -> None:
    """Two seconds after it was sent a chunk the pin is released; it may need another scan."""
    hub = make_hub()
    sender, pin = sender_of(hub, 5), hub.history.pin()
    sender.pin(pin)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.drained)
        await trio.sleep(1.9)
        assert hub.history.holds(pin)
        await trio.sleep(0.2)
        assert not hub.history.holds(pin)
    assert trio.current_time() >= 5
