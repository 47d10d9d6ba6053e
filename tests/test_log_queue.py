"""Logging does not wait for a slow reader; dropped lines are counted and reported."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from odin_ws.log_queue import LogQueue, dropped_lines
from odin_ws.logs import configure_logging

# Time-out for what takes microseconds on a free machine.
PATIENCE = 20.0


class Reader:
    """The reader of the log: it can stop, continue, or go away."""

    def __init__(self) -> None:
        self.reads = threading.Event()
        self.reads.set()
        self.waited_for = threading.Event()
        self.error: OSError | None = None
        self.lines: list[dict[str, Any]] = []

    def write(self, line: bytes) -> None:
        """Called by the queue with each line."""
        self.waited_for.set()
        assert self.reads.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.lines.append(json.loads(line))

    @property
    def events(self) -> list[str]:
        """The events of all lines."""
        return [line["event"] for line in self.lines]

    @property
    def reported(self) -> list[int]:
        """The counts of dropped lines reported so far."""
        return [line["lines"] for line in self.lines if line["event"] == "log lines were dropped"]


@pytest.fixture
def reader() -> Iterator[Reader]:
    """A reader that reads."""
    reader = Reader()
    yield reader
    reader.reads.set()


@pytest.fixture
def restored() -> Iterator[None]:
    """Restore the logging configuration after the test."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.configure(**config)
    root.handlers[:] = handlers
    root.setLevel(level)


def queue_for(reader: Reader, **bounds: int) -> LogQueue:
    """Log everything into a queue in front of a reader."""
    queue = LogQueue(reader.write, **bounds)
    configure_logging("info", "json", queue)
    queue.start()
    return queue


def stop(reader: Reader, queue: LogQueue) -> None:
    """Let the reader stop within a line, with an empty queue."""
    assert queue.flush_for(PATIENCE)
    reader.reads.clear()
    reader.waited_for.clear()
    log("the last that is read")
    assert reader.waited_for.wait(PATIENCE)


def log(event: str, **fields: Any) -> None:
    """Log a line of ours."""
    structlog.get_logger("odin_ws.test").info(event, **fields)


@pytest.mark.usefixtures("restored")
def test_logging_continues_while_stderr_is_not_read(reader: Reader) -> None:
    """No line waits for the reader; when it continues, the lines arrive in order, unchanged."""
    queue = queue_for(reader)
    stop(reader, queue)
    names = ["a"]
    log("first", names=names)
    names.append("b")
    logging.getLogger("library").warning("second %s", 2)
    assert not queue.flush_for(0)
    reader.reads.set()
    assert queue.flush_for(PATIENCE)
    assert reader.events == ["the last that is read", "first", "second 2"]
    assert reader.lines[1]["names"] == ["a"]
    assert (queue.dropped, reader.reported) == (0, [])


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("bounds", [{"max_lines": 11}, {"max_bytes": 11 * 1000}])
def test_dropped_lines_are_counted_and_reported_in_one_line(
    reader: Reader, bounds: dict[str, int]
) -> None:
    """Lines over the limit are dropped; once there is room, one line reports their number."""
    queue = queue_for(reader, **bounds)
    stop(reader, queue)
    for number in range(1000):
        log("x" * 1000, number=number)
    kept = 1000 - queue.dropped
    assert 8 <= kept <= 11
    assert dropped_lines() == queue.dropped
    reader.reads.set()
    assert queue.flush_for(PATIENCE)
    assert reader.reported == [queue.dropped]
    numbers = [line["number"] for line in reader.lines if "number" in line]
    assert numbers == list(range(kept))
    log("again")
    assert queue.flush_for(PATIENCE)
    assert reader.events[-1] == "again"
    assert len(reader.reported) == 1


@pytest.mark.usefixtures("restored")
def test_report_of_dropped_lines_names_the_worker(reader: Reader) -> None:
    """The report has the fields that every line of the process has."""
    with structlog.contextvars.bound_contextvars(worker=2):
        queue = queue_for(reader, max_lines=2)
        stop(reader, queue)
        for _ in range(5):
            log("another")
        reader.reads.set()
        assert queue.flush_for(PATIENCE)
    (line,) = [line for line in reader.lines if line["event"] == "log lines were dropped"]
    assert (line["worker"], line["level"], line["logger"]) == (2, "error", "odin_ws.logs")
    assert line["timestamp"].endswith("Z")


@pytest.mark.usefixtures("restored")
def test_full_disk_drops_lines_until_it_has_room(reader: Reader) -> None:
    """A line that cannot be written is dropped; the log continues, and reports it when it can."""
    queue = queue_for(reader)
    reader.error = OSError(28, "No space left on device")
    for _ in range(3):
        log("lost")
    assert queue.flush_for(PATIENCE)
    assert (queue.dropped, reader.lines) == (3, [])
    reader.error = None
    log("kept")
    assert queue.flush_for(PATIENCE)
    assert (reader.events, reader.reported) == (["kept", "log lines were dropped"], [3])


@pytest.mark.usefixtures("restored")
def test_flush_is_bounded(reader: Reader) -> None:
    """It ends after its time-out, even if no reader reads."""
    queue = queue_for(reader)
    stop(reader, queue)
    assert not queue.flush_for(0.05)


@pytest.mark.processes
def test_warnings_and_ignored_exceptions_are_lines_of_the_log() -> None:
    """Python would print both to stderr otherwise, and wait for its reader."""
    program = (
        "import warnings\n"
        "from odin_ws.log_queue import log_queue\n"
        "from odin_ws.logs import configure_logging\n"
        "class Broken:\n"
        "    def __del__(self):\n"
        "        raise ValueError('broken')\n"
        "with log_queue() as queue:\n"
        "    configure_logging('info', 'json', queue)\n"
        "    warnings.warn('mind the gap')\n"
        "    Broken()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    warning, ignored = (json.loads(line) for line in done.stderr.splitlines())
    assert "mind the gap" in warning["event"]
    assert "ValueError" in json.dumps(ignored["exception"])
