"""A child process does what its owner says, from the moment that it was said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from odin_ws.testing.processes import ChildProcess

# Threads that are always on some core, outside of the interpreter's lock.
BUSY = """
import hashlib, threading
def work():
    while True:
        hashlib.sha256(bytes(1 << 20))
for _ in range(4):
    threading.Thread(target=work).start()
print("begun", flush=True)
"""


# Starts a child that runs for ever, and prints its number.
OWNER = """
import sys, trio
from pathlib import Path
from odin_ws.testing.processes import ChildProcess
async def main():
    child = ChildProcess(["sleep", "1000"], Path(sys.argv[1]))
    await child.start()
    print(child.pid, flush=True)
    await trio.sleep_forever()
trio.run(main)
"""

PATIENCE = 30


def states(pid: int) -> set[str]:
    """What the kernel says of each thread: T is stopped."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return {one.read_text().rpartition(")")[2].split()[0] for one in threads}


async def test_a_pause_has_begun_when_it_returns(tmp_path: Path) -> None:
    """No thread runs on for a while and answers what is asked of a frozen broker."""
    log = tmp_path / "log"
    child = ChildProcess([sys.executable, "-c", BUSY], log)
    await child.start()
    try:
        while "begun" not in log.read_text():
            assert child.running
        for _ in range(100):
            # Until it really goes on.
            while "R" not in states(child.pid):
                assert child.running
            child.pause()
            assert states(child.pid) == {"T"}
            child.unpause()
    finally:
        await child.kill()


async def test_who_has_ended_is_not_paused(tmp_path: Path) -> None:
    """Its end is no reason to wait."""
    child = ChildProcess([sys.executable, "-c", ""], tmp_path / "log")
    await child.start()
    assert await child.wait() == 0
    child.pause()


def test_child_does_not_outlive_an_owner_that_was_killed(tmp_path: Path) -> None:
    """`kill -9` of the demo or of a benchmark leaves no broker behind."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        family = psutil.Process(owner.pid).children(recursive=True)
        assert child in family
        owner.kill()
        owner.wait()
    _, alive = psutil.wait_procs(family, PATIENCE)
    assert not alive


@pytest.mark.parametrize("killed", [False, True])
async def test_nothing_of_a_child_is_left_after_its_end(tmp_path: Path, *, killed: bool) -> None:
    """Neither the process nor what guards it; then it can be started again."""
    child = ChildProcess(["sleep", "1000"], tmp_path / "log")
    before = set(psutil.Process().children())
    for _ in range(2):
        await child.start()
        await (child.kill() if killed else child.end(PATIENCE))
        assert set(psutil.Process().children()) == before


async def test_guard_that_was_killed_is_no_reason_to_fail(tmp_path: Path) -> None:
    """The child is ended all the same."""
    child = ChildProcess(["sleep", "1000"], tmp_path / "log")
    before = set(psutil.Process().children())
    await child.start()
    for process in set(psutil.Process().children()) - before:
        if process.pid != child.pid:
            process.kill()
            process.wait()
    await child.end(PATIENCE)
    assert set(psutil.Process().children()) == before
