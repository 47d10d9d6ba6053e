"""A child process is paused, killed and ended at once, and never outlives its owner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from odin_ws.testing.processes import ChildProcess

pytestmark = pytest.mark.processes

# Threads that run all the time, without the interpreter lock.
BUSY = """
import hashlib, threading
def work():
    while True:
        hashlib.sha256(bytes(1 << 20))
for _ in range(4):
    threading.Thread(target=work).start()
print("begun", flush=True)
"""


# Starts a child that runs forever, and prints its process id.
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

TIMEOUT_SECONDS = 30


def states(pid: int) -> set[str]:
    """Return the kernel's state of each thread; T is stopped."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return {thread.read_text().rpartition(")")[2].split()[0] for thread in threads}


async def test_pause_has_stopped_all_threads_when_it_returns(tmp_path: Path) -> None:
    """No thread of a paused broker still answers requests."""
    log = tmp_path / "log"
    child = ChildProcess([sys.executable, "-c", BUSY], log)
    await child.start()
    try:
        while "begun" not in log.read_text():
            assert child.running
        for _ in range(100):
            # Wait until the child runs again.
            while "R" not in states(child.pid):
                assert child.running
            child.pause()
            assert states(child.pid) == {"T"}
            child.unpause()
    finally:
        await child.kill()


async def test_pause_of_ended_child_returns(tmp_path: Path) -> None:
    """It does not wait for a stopped state."""
    child = ChildProcess([sys.executable, "-c", ""], tmp_path / "log")
    await child.start()
    assert await child.wait() == 0
    child.pause()


def test_child_is_killed_with_its_owner(tmp_path: Path) -> None:
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
    _, alive = psutil.wait_procs(family, TIMEOUT_SECONDS)
    assert not alive


@pytest.mark.parametrize("killed", [False, True])
async def test_ended_child_leaves_no_process(tmp_path: Path, *, killed: bool) -> None:
    """Neither the child nor its guard; the child can be started again."""
    child = ChildProcess(["sleep", "1000"], tmp_path / "log")
    before = set(psutil.Process().children())
    for _ in range(2):
        await child.start()
        await (child.kill() if killed else child.end(TIMEOUT_SECONDS))
        assert set(psutil.Process().children()) == before


async def test_child_whose_guard_was_killed_can_be_ended(tmp_path: Path) -> None:
    """`end` does not raise."""
    child = ChildProcess(["sleep", "1000"], tmp_path / "log")
    before = set(psutil.Process().children())
    await child.start()
    for process in set(psutil.Process().children()) - before:
        if process.pid != child.pid:
            process.kill()
            process.wait()
    await child.end(TIMEOUT_SECONDS)
    assert set(psutil.Process().children()) == before
