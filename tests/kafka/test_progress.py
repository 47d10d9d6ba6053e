"""A feed is called stalled for what does not come, not for what is on its way."""

from __future__ import annotations

from odin_ws.kafka.progress import Progress
from odin_ws.records import TopicPartition

QUIET = TopicPartition("trade", 0)
BUSY = TopicPartition("trade", 1)


def test_what_came_since_the_last_probe_is_on_its_way() -> None:
    """A record that was published since the last probe makes no live feed stalled."""
    progress = Progress()
    progress.note({QUIET: 5}, [])
    assert progress.stuck({QUIET: 5}, [QUIET], stalled=False) == []


def test_a_stalled_feed_has_to_move() -> None:
    """The same record makes no stalled feed live: nothing of it was read."""
    progress = Progress()
    progress.note({QUIET: 5}, [])
    assert progress.stuck({QUIET: 5}, [QUIET], stalled=True) == [QUIET]
    assert progress.stuck({QUIET: 6}, [QUIET], stalled=True) == []


def test_what_does_not_come_from_one_probe_to_the_next() -> None:
    """A partition is stuck that had more at the last probe too, and was not read since."""
    progress = Progress()
    progress.note({QUIET: 5, BUSY: 7}, [QUIET, BUSY])
    assert progress.stuck({QUIET: 5, BUSY: 8}, [QUIET, BUSY], stalled=False) == [QUIET]


def test_there_is_nothing_to_compare_with_at_first() -> None:
    """Nothing is stuck at the first probe, and nothing has moved."""
    progress = Progress()
    assert progress.stuck({QUIET: 5}, [QUIET], stalled=True) == []
    assert not progress.moved({QUIET: 5})


def test_moved() -> None:
    """Something has moved where one position is another than at the last probe."""
    progress = Progress()
    progress.note({QUIET: 5, BUSY: 7}, [])
    assert not progress.moved({QUIET: 5, BUSY: 7})
    assert progress.moved({QUIET: 5, BUSY: 8})
