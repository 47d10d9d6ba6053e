"""From batches of records to subscribers: the index of who wants what, and the dispatcher."""

from odin_ws.hub.hub import Hub, HubStats
from odin_ws.hub.subscriber import Subscriber

__all__ = ["Hub", "HubStats", "Subscriber"]
