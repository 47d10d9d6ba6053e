"""From batches of records to subscribers: who wants what, the dispatcher, and the recent past."""

from odin_ws.hub.beginnings import Jumps, LiveFrom, LogChanges
from odin_ws.hub.conflation import Conflation
from odin_ws.hub.hub import Hub
from odin_ws.hub.intake import Intake
from odin_ws.hub.last import LastMessages
from odin_ws.hub.retention import Gathered, Pin, Retention
from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Subscriber
from odin_ws.hub.want import Want

__all__ = [
    "Conflation",
    "Gathered",
    "Hub",
    "HubStats",
    "Intake",
    "Jumps",
    "LastMessages",
    "LiveFrom",
    "LogChanges",
    "Pin",
    "Retention",
    "Subscriber",
    "Want",
]
