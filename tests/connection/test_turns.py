"""Turns: how much is done for clients between two passes of the loop, and in which order."""

import trio
from trio.testing import MockClock

from odin_ws.connection.turns import _LEAST, _MOST, _PASS_SECONDS, open_turns


async def test_nobody_waits_where_few_come() -> None:
    """The first ones have their turn without so much as a checkpoint."""
    async with open_turns() as turns:
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(_MOST):
                await turns.take()
        assert not scope.cancelled_caught
        assert not turns.waiting


async def test_who_comes_first_is_served_first() -> None:
    """All of many have a turn, in the order of coming but for those of the same pass."""
    served: list[int] = []

    async def come(number: int) -> None:
        await turns.take()
        served.append(number)

    async with open_turns() as turns, trio.open_nursery() as nursery:
        for _ in range(_MOST):
            await turns.take()
        for number in range(10 * _MOST):
            nursery.start_soon(come, number)
            if not number % 7:
                await trio.lowlevel.checkpoint()
    assert sorted(served) == list(range(10 * _MOST))
    assert all(abs(number - at) < _MOST + 7 for at, number in enumerate(served))


async def test_others_run_between_turns_that_take_long(mock_clock: MockClock) -> None:
    """Where each turn takes a millisecond, a pass has as many as fit, and not all who wait."""
    works = _PASS_SECONDS / 4
    done = 0
    seen = []

    async def flood() -> None:
        nonlocal done
        while True:
            await trio.lowlevel.checkpoint()
            await turns.take()
            mock_clock.jump(works)
            done += 1

    async with open_turns() as turns, trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(flood)
        for _ in range(200):
            before = done
            await trio.lowlevel.checkpoint()
            seen.append(done - before)
        nursery.cancel_scope.cancel()
    settled = seen[100:]
    assert max(settled) <= 2 * _PASS_SECONDS / works
    assert sum(settled) / len(settled) >= _LEAST


async def test_who_leaves_while_it_waits_takes_no_turn() -> None:
    """A connection that is cancelled in the queue is forgotten, and the others go on."""
    async with open_turns() as turns:
        for _ in range(_MOST):
            await turns.take()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.take)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert not turns.waiting
        with trio.fail_after(1):
            await turns.take()
