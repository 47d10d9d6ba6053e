"""Bringing a client from where it was to live."""

from odin_ws.resume.gaps import Losses, Reason
from odin_ws.resume.replay import Caller, NotNow, Replay
from odin_ws.resume.replay_limits import ReplayLimits, ReplayStats
from odin_ws.resume.scan_pool import Scans
from odin_ws.resume.start_position import Beginning, ReplayContext, Resumed

__all__ = [
    "Beginning",
    "Caller",
    "Losses",
    "NotNow",
    "Reason",
    "Replay",
    "ReplayContext",
    "ReplayLimits",
    "ReplayStats",
    "Resumed",
    "Scans",
]
