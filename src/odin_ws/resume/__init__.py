"""Resuming clients: start position, replay from history or Kafka, gaps, shared scans."""

from odin_ws.resume.gaps import LossReason, LostSpans
from odin_ws.resume.replay import Replay
from odin_ws.resume.replay_limits import ReplayLimits, ReplayStats
from odin_ws.resume.replay_state import ReplayClient, ReplayUnavailable
from odin_ws.resume.replay_window import ReplayWindow
from odin_ws.resume.scan_pool import ScanPool
from odin_ws.resume.start_position import ReplayContext, ResumeTopics, StartPosition

__all__ = [
    "LossReason",
    "LostSpans",
    "Replay",
    "ReplayClient",
    "ReplayContext",
    "ReplayLimits",
    "ReplayStats",
    "ReplayUnavailable",
    "ReplayWindow",
    "ResumeTopics",
    "ScanPool",
    "StartPosition",
]
