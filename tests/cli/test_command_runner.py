"""Errors and exit statuses of commands."""

from __future__ import annotations

import io

import pytest
import trio

from odin_ws.cli.command_runner import CommandFailed, run


async def fail_deeply(error: Exception) -> int:
    """Raise the exception inside two nurseries."""
    async with trio.open_nursery(), trio.open_nursery() as inner:
        inner.start_soon(_raise, error)
        await trio.sleep_forever()
    return 0


async def _raise(error: Exception) -> None:
    raise error


def test_failure_in_nested_nurseries_is_raised_without_groups() -> None:
    """`run` raises CommandFailed itself, however many nurseries it passed."""
    with pytest.raises(CommandFailed, match="no broker"):
        run(lambda: fail_deeply(CommandFailed("no broker")))


def test_bug_keeps_its_traceback() -> None:
    """Any other exception leaves `run` unchanged."""
    with pytest.RaisesGroup(pytest.RaisesExc(KeyError), flatten_subgroups=True):
        run(lambda: fail_deeply(KeyError("bug")))


def test_status_of_command_is_returned() -> None:
    """`run` returns the status of a command that ends by itself."""

    async def command() -> int:
        return 3

    assert run(command) == 3


def test_failure_shows_no_control_characters() -> None:
    """Its text may be a broker's or a server's; lines of our own stay lines."""
    shown = io.StringIO()
    CommandFailed("the broker says \x1b[2J\nsee docs").show(shown)
    assert shown.getvalue() == "odin-ws: the broker says \\x1b[2J\nsee docs\n"
