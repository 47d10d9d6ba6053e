"""How much freed memory the process keeps, estimated from its size and its objects."""

from __future__ import annotations

import pytest

from odin_ws.resources.allocator import Allocator, ReusableMemory

MB = 10**6


class FakeAllocator(Allocator):
    """Has so much in use; counts how often it was trimmed."""

    def __init__(self) -> None:
        super().__init__()
        self.used = 0
        self.trims = 0

    @property
    def in_use(self) -> int:
        """As the test says."""
        return self.used

    def trim(self) -> None:
        """Count."""
        self.trims += 1


def grown() -> ReusableMemory:
    """Grew by 160 MB and 1.6 million objects: 100 bytes each."""
    memory = ReusableMemory(FakeAllocator())
    memory.observe(70 * MB, 300_000)
    memory.observe(230 * MB, 1_900_000)
    return memory


def test_a_process_at_its_largest_has_nothing_to_reuse() -> None:
    """Its allocator had to ask for more."""
    assert grown().bytes == 0


def test_objects_that_are_gone_leave_their_part_free() -> None:
    """Without what was given back to the system."""
    memory = grown()
    memory.observe(230 * MB, 900_000)
    assert memory.bytes == pytest.approx(100 * MB)
    memory.observe(170 * MB, 900_000)
    assert memory.bytes == pytest.approx(40 * MB)
    # All of it was given back: then there is nothing.
    memory.observe(130 * MB, 900_000)
    assert memory.bytes == 0


def test_reused_memory_is_no_longer_free() -> None:
    """Newcomers use it first, and the process does not grow meanwhile."""
    memory = grown()
    memory.observe(230 * MB, 900_000)
    memory.observe(230 * MB, 1_700_000)
    assert memory.bytes == pytest.approx(20 * MB)


def test_an_estimate_that_was_too_high_ends_when_the_process_grows() -> None:
    """Growth says that nothing was free; a page or two say little."""
    memory = grown()
    memory.observe(230 * MB, 900_000)
    memory.observe(231 * MB, 900_000)
    assert memory.bytes == pytest.approx(98 * MB)
    memory.observe(275 * MB, 900_000)
    assert memory.bytes == 0


def test_memory_of_the_c_library_is_known_and_not_estimated() -> None:
    """Large buffers that come and go do not change what Python's allocator has."""
    allocator = FakeAllocator()
    memory = ReusableMemory(allocator)
    memory.observe(70 * MB, 300_000)
    memory.observe(230 * MB, 1_900_000)
    allocator.used = 500 * MB
    memory.observe(730 * MB, 900_000)
    assert memory.bytes == pytest.approx(100 * MB)


def test_little_is_noise() -> None:
    """A process that did not grow has nothing to speak of."""
    memory = ReusableMemory(FakeAllocator())
    memory.observe(70 * MB, 300_000)
    memory.observe(69 * MB, 200_000)
    assert memory.bytes == 0


def test_memory_is_given_back_when_much_was_freed() -> None:
    """An eighth of it, and 16 MiB at least; then anew from there."""
    allocator = FakeAllocator()
    memory = ReusableMemory(allocator)
    allocator.used = 400 * MB
    assert not memory.trim()
    allocator.used = 360 * MB
    assert not memory.trim()
    allocator.used = 340 * MB
    assert memory.trim()
    assert not memory.trim()
    assert allocator.trims == 1


def test_statistics_come_from_the_c_library() -> None:
    """On Linux with glibc; with another library nothing is known and nothing fails."""
    allocator = Allocator()
    before = allocator.in_use
    kept = bytearray(8 << 20)
    assert allocator.in_use == 0 or allocator.in_use - before >= len(kept)
    allocator.trim()
