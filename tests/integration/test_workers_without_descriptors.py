"""A supervisor without descriptors: real processes, and a real limit."""

from __future__ import annotations

import resource
import signal
import sys
from typing import Final

import psutil
import pytest

from tests.integration.starting import PATIENCE, Starting, starting

# The server, with 8 s instead of 30 s until its supervisor gives up a silent worker.
HUNG_SECONDS: Final = 8
PROGRAM: Final = f"""
from odin_ws.workers import supervisor
supervisor._HUNG_SECONDS, supervisor._LOOK_SECONDS = {HUNG_SECONDS}, 0.2
from odin_ws.__main__ import main
main()
"""
SERVE: Final = (sys.executable, "-c", PROGRAM, "serve")

WORKERS: Final = 2


def take_descriptors(process: psutil.Process) -> None:
    """Leave a process only its open descriptors: the limit counts numbers; 0 to 2 are in use."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))


def workers_of(server: Starting) -> list[psutil.Process]:
    """The workers, once all of them serve."""
    for _ in range(WORKERS):
        server.reaches('"event": "serving"')
    return psutil.Process(server.process.pid).children()


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux only")
def test_supervisor_without_descriptors_kills_no_healthy_worker() -> None:
    """It cannot request their pages, logs this once each, and recovers; a drain needs none."""
    with starting(command=SERVE, WS_WORKERS=f"{WORKERS}") as server:
        workers = workers_of(server)
        assert len(workers) == WORKERS
        take_descriptors(psutil.Process(server.process.pid))
        ended, _ = psutil.wait_procs(workers, 1.5 * HUNG_SECONDS)
        assert not ended
        server.signal(signal.SIGTERM)
        assert server.ended() == 0, "".join(server.log_lines)
        psutil.wait_procs(workers, PATIENCE)
    reported = [line for line in server.log_lines if "worker health check failed" in line]
    assert len(reported) == WORKERS, server.log_lines
    assert all("Too many open files" in line for line in reported)
    assert "Traceback" not in "".join(server.log_lines)
