"""Records as messages, kept in memory: the recent history, and the last message of each channel."""

from odin_ws.history.history import Gathered, Pin, Retention
from odin_ws.history.resume_cursor import Want
from odin_ws.history.snapshot_cache import LastMessages

__all__ = ["Gathered", "LastMessages", "Pin", "Retention", "Want"]
