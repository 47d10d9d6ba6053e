"""Bringing a client from where it was to live."""

from odin_ws.resume.limits import ReplayLimits, ReplayStats
from odin_ws.resume.plan import Losses, Reason
from odin_ws.resume.replay import Caller, NotNow, Replay
from odin_ws.resume.scans import Scans
from odin_ws.resume.start import Beginning, ReplayContext, Resumed

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
