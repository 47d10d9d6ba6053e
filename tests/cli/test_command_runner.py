"""How a command ends that fails deep inside."""

from __future__ import annotations

import pytest
import trio

from odin_ws.cli.command_runner import CommandFailed, run


async def fail_deeply(error: Exception) -> int:
    """Raise it inside two nurseries."""
    async with trio.open_nursery(), trio.open_nursery() as inner:
        inner.start_soon(_raise, error)
        await trio.sleep_forever()
    return 0


async def _raise(error: Exception) -> None:
    raise error


def test_a_failure_comes_out_alone() -> None:
    """However many nurseries it passed, the failure is what is raised."""
    with pytest.raises(CommandFailed, match="no broker"):
        run(lambda: fail_deeply(CommandFailed("no broker")))


def test_a_bug_is_not_hidden() -> None:
    """Any other exception keeps its traceback."""
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError), flatten_subgroups=True):
        run(lambda: fail_deeply(KeyError("bug")))


def test_the_status_is_the_commands() -> None:
    """A command that ends by itself says how."""

    async def command() -> int:
        return 3

    assert run(command) == 3
