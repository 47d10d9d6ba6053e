"""`make stack` goes on whatever its user stops."""

from __future__ import annotations

from typing import cast

import pytest
import trio

from tests.chaos.instances import Instance
from tests.stack.__main__ import restart_forever
from tests.stack.stack import Stack


class NeverReady:
    """An instance that ends once, and a stack in which it does not become ready: no broker."""

    name = "one"
    pid = 7

    def __init__(self) -> None:
        self.waits = 0
        self.waits_again = trio.Event()

    async def ended(self) -> int:
        """Return 0 the first time; then the instance runs."""
        self.waits += 1
        if self.waits > 1:
            self.waits_again.set()
            await trio.sleep_forever()
        return 0

    async def back(self, _instance: Instance) -> None:
        """Fail as a start without a broker."""
        raise trio.TooSlowError


async def test_instance_without_a_broker_does_not_end_the_stack(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It runs and waits for the broker; the stack says so."""
    fake = NeverReady()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restart_forever, cast("Stack", fake), cast("Instance", fake))
        with trio.fail_after(5):
            await fake.waits_again.wait()
        nursery.cancel_scope.cancel()
    assert "one runs, process 7, and is not ready yet" in capsys.readouterr().out
