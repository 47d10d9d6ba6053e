"""Messages kept in memory: the recent history, and the last message of each channel."""

from odin_ws.history.history import Gathered, History, Pin
from odin_ws.history.resume_cursor import ResumeCursor
from odin_ws.history.snapshot_cache import SnapshotCache

__all__ = ["Gathered", "History", "Pin", "ResumeCursor", "SnapshotCache"]
