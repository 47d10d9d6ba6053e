"""The fetches from one broker: their session, plan and back-off, over successive requests."""

from __future__ import annotations

import math
from typing import Final

import attrs

from odin_ws.backoff import Backoff
from odin_ws.kafka.client import Brokers, Purpose
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.fetch_plan import FetchPlanner, FetchWait
from odin_ws.kafka.fetch_session import FetchSession
from odin_ws.kafka.protocol import FetchRequest, FetchResponse

__all__ = ["BrokerFetches", "send_fetch"]

# Back-off after a broker failed as a whole.
_FIRST_RETRY_SECONDS: Final = 0.1
_LAST_RETRY_SECONDS: Final = 1.0


def _backoff() -> Backoff:
    return Backoff(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)


@attrs.define
class BrokerFetches:
    """The state of the fetches from one broker, without that of its partitions."""

    session: FetchSession = attrs.field(factory=FetchSession)
    planner: FetchPlanner = attrs.field(factory=FetchPlanner)
    backoff: Backoff = attrs.field(factory=_backoff)
    not_before: float = -math.inf
    """When the next fetch may be sent."""
    has_backlog: bool = False
    """True if the last response was large: the broker has more records."""
    _lost_sessions: int = 0

    def has_lost_session(self, response: FetchResponse) -> bool:
        """Return whether to fetch again at once, because the broker has dropped the session.

        Brokers drop sessions now and then; only repeated loss is a problem.
        """
        if self.session.receive(response.error, response.session):
            return False
        self._lost_sessions += 1
        self.planner.forget()
        return self._lost_sessions == 1

    def forget(self) -> None:
        """Begin again after a failure: the next request names all partitions."""
        self.session.forget()
        self.planner.forget()

    def note_success(self) -> None:
        """Note a response without an error of the broker."""
        self.backoff.reset()
        self._lost_sessions = 0


async def send_fetch(
    brokers: Brokers, node: int, request: FetchRequest, wait: FetchWait
) -> tuple[FetchResponse | None, str | None]:
    """Send a fetch; returns the response, if any, and why it failed as a whole."""
    try:
        response = await brokers.send(node, request, Purpose.FETCH, wait.seconds)
    except KafkaUnavailable as error:
        return None, str(error)
    return response, error_text(response.error) if response.error else None
