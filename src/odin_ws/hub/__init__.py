"""The hub between Kafka and connections: ingest, dispatcher, subscription index, fan-out."""

from odin_ws.hub.conflation import Conflation
from odin_ws.hub.dispatcher import Dispatcher
from odin_ws.hub.hub import Hub
from odin_ws.hub.ingest import Ingest
from odin_ws.hub.log_changes import LiveFrom, LogChanges, OffsetGaps
from odin_ws.hub.stats import HubStats
from odin_ws.hub.stream import Stream
from odin_ws.hub.subscriber import Subscriber
from odin_ws.hub.subscription_options import PLAIN, SubscriptionOptions

__all__ = [
    "PLAIN",
    "Conflation",
    "Dispatcher",
    "Hub",
    "HubStats",
    "Ingest",
    "LiveFrom",
    "LogChanges",
    "OffsetGaps",
    "Stream",
    "Subscriber",
    "SubscriptionOptions",
]
