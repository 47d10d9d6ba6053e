"""From batches of records to subscribers: who wants what, and the dispatcher."""

from odin_ws.hub.conflation import Conflation
from odin_ws.hub.dispatcher import Hub
from odin_ws.hub.ingest import Ingest
from odin_ws.hub.log_changes import LiveFrom, LogChanges, OffsetGaps
from odin_ws.hub.stats import HubStats
from odin_ws.hub.subscriber import Subscriber

__all__ = [
    "Conflation",
    "Hub",
    "HubStats",
    "Ingest",
    "LiveFrom",
    "LogChanges",
    "OffsetGaps",
    "Subscriber",
]
