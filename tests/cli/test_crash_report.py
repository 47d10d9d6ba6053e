"""What is printed when an exception ends the process."""

from __future__ import annotations

import pytest

from odin_ws.cli.crash_report import print_crash


def test_a_crash_shows_the_innermost_exception(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug 30 nurseries deep is printed with its message: Python's own hook stops at 10."""
    crash: Exception = KeyError("the cause")
    for _ in range(30):
        crash = ExceptionGroup("Exceptions from Trio nursery", [crash])
    print_crash(type(crash), crash, None)
    assert "KeyError: 'the cause'" in capsys.readouterr().err
