"""The `replay` command: sends messages again under their sequence numbers."""

from __future__ import annotations

from typing import Final

from odin_ws.protocol.commands import Resend
from odin_ws.protocol.responses import replay_complete, resend_incomplete
from odin_ws.resume import ReplayContext
from odin_ws.resume.responses import Responder
from odin_ws.session.subscriber_connection import SubscriberConnection
from odin_ws.time_slice import TimeSlice

__all__ = ["resend"]

# Messages sent together; the client must have received them before the next.
_MESSAGES: Final = 100


async def resend(
    command: Resend, client: SubscriberConnection, context: ReplayContext, responder: Responder
) -> None:
    """Resend the requested messages that history still has; report the numbers that are gone."""
    subscriber, hub = client.subscriber, context.hub
    time_slice = TimeSlice(context.scans.wait_for_work_slice)
    newest = subscriber.seq
    oldest, messages = await time_slice.run(hub.sent(subscriber))
    newest = max(newest, oldest + len(messages) - 1)
    last = newest if command.last is None else min(command.last, newest)
    first = max(command.first, oldest)
    wanted = messages[first - oldest : max(0, last - oldest + 1)]
    for begin in range(0, len(wanted), _MESSAGES):
        await client.drained()
        await time_slice.yield_control()
        batch = wanted[begin : begin + _MESSAGES]
        hub.resend(subscriber, batch, first + begin)
    responder.charge(len(wanted))
    if command.first < oldest:
        missing = command.first, min(oldest - 1, last)
        response = resend_incomplete(command.id, len(wanted), missing)
    else:
        response = replay_complete(command.id, len(wanted))
    responder.respond(response)
