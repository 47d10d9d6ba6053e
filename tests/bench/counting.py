"""Counts bytecode instructions, or calls, of a block."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import CodeType, FrameType
from typing import Any

__all__ = ["Count", "Counting", "calls", "instructions"]


class Count:
    """A number that increases while a block runs."""

    def __init__(self) -> None:
        self.value = 0


Counting = Callable[[], AbstractContextManager[Count]]


@contextmanager
def instructions() -> Iterator[Count]:
    """Count the bytecode instructions of the block."""
    count = Count()
    with _monitored(count) if sys.version_info >= (3, 12) else _traced(count):
        yield count


@contextmanager
def _monitored(count: Count) -> Iterator[None]:
    """Count with sys.monitoring: from 3.12 on tracing misses functions that are already running."""
    monitoring: Any = vars(sys)["monitoring"]  # mypy also checks for 3.11
    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION

    def add(_code: CodeType, _offset: int) -> None:
        count.value += 1

    monitoring.use_tool_id(tool, "tests.bench.counting")
    monitoring.register_callback(tool, event, add)
    monitoring.set_events(tool, event)
    try:
        yield
    finally:
        monitoring.set_events(tool, monitoring.events.NO_EVENTS)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)


@contextmanager
def _traced(count: Count) -> Iterator[None]:
    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count.value += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def calls() -> Iterator[Count]:
    """Count the calls of functions in the block, C functions included."""
    count = Count()

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        count.value += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(before)
