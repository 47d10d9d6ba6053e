"""A child process does what its owner says, from the moment that it was said."""

from __future__ import annotations

import sys
from pathlib import Path

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
