"""One client's subscriptions: subscribe, resume, unsubscribe, live or by replay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

import trio

from odin_ws.history import ResumeCursor
from odin_ws.hub import PLAIN, Conflation, Hub, SubscriptionOptions
from odin_ws.protocol.commands import (
    Delivery,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
)
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.responses import (
    Accepted,
    subscription_ack,
    unsubscription_ack,
)
from odin_ws.protocol.selection import RejectedName, Selection
from odin_ws.resume import Replay, ReplayContext, ReplayUnavailable, StartPosition
from odin_ws.resume.responses import ReplayResponses, Responder
from odin_ws.session.deferred_commands import DeferredCommands, StartCommand
from odin_ws.session.replay_requests import start_position_of, starts_of
from odin_ws.session.resend import resend
from odin_ws.session.subscriber_connection import Job, SubscriberConnection
from odin_ws.session.subscription_admission import (
    REPLAY_BYTES,
    Admitted,
    Names,
    SubscriptionAdmission,
    SubscriptionLimits,
    patterns_in,
    unavailable,
)
from odin_ws.steps import STEP_ITEMS, Steps
from odin_ws.time_slice import TimeSlice

__all__ = ["Subscriptions"]

# Patterns unsubscribed in one step: while a replay reads the log, a step costs as much as all
# patterns of the replay.
_END_PATTERNS: Final = 256


class Subscriptions:
    """Executes the commands that change a client's subscriptions."""

    __slots__ = (
        "_client",
        "_context",
        "_hub",
        "_limits",
        "_prepared",
        "_replay",
        "_responder",
        "_subscriber",
        "_waiting",
        "admission",
    )

    def __init__(
        self,
        client: SubscriberConnection,
        context: ReplayContext,
        limits: SubscriptionLimits,
        responder: Responder,
    ) -> None:
        self._client = client
        self._subscriber = client.subscriber
        self._context = context
        self._hub = context.hub
        self._limits = limits
        self.admission = SubscriptionAdmission(client, self._hub, limits)
        self._responder = responder
        self._replay: Replay | None = None
        self._waiting: DeferredCommands | None = None
        # While a waiting command is executed: set when it is live or replaying.
        self._prepared: trio.Event | None = None

    async def begin(self, command: StartCommand, time_slice: TimeSlice) -> None:
        """Start a subscription, now or after the running replay."""
        if not self._client.replaying:
            job = await self._job(command, time_slice)
            if job is not None:
                self._client.start(partial(self._work, job))
        else:
            self._wait(command)

    def _wait(self, command: StartCommand) -> None:
        if self._waiting is None:
            self._waiting = DeferredCommands()
        if not self._waiting.admits(command):
            message = "too many commands wait for the end of a replay; this one was ignored"
            raise unavailable(command, ErrorCode.RATE_LIMIT_EXCEEDED, message)
        self.admission.spend_waiting(command)
        self._waiting.append(command)

    async def end(self, command: Unsubscribe, time_slice: TimeSlice) -> None:
        """End subscriptions, also replaying ones and those of waiting commands."""
        waited: AbstractSet[str] = frozenset()
        if self._waiting:
            patterns = patterns_in(command.selection.wanted)
            waited = await time_slice.run(self._waiting.drop(patterns))
        await self._settled()
        gone, rejected = await time_slice.run(self._end(command.selection, waited))
        self._responder.count_rejected_names(rejected)
        subscriber, replay = self._subscriber, self._replay
        count = len(subscriber.patterns.union(replay.patterns if replay else ()))
        self._responder.respond(
            unsubscription_ack(command.id, subscriber.form.dialect, Accepted(gone, rejected, count))
        )

    async def _settled(self) -> None:
        """Wait while a waiting command is executed.

        The command's subscriptions are neither live nor replaying yet.
        """
        while self._prepared is not None:
            await self._prepared.wait()

    def _end(
        self, selection: Selection, waited: AbstractSet[str]
    ) -> Steps[tuple[list[str], list[RejectedName]]]:
        """End names; returns those that had subscriptions, and the rejections."""
        gone: list[str] = []
        rejected = list(selection.rejected)
        batch: list[str] = []
        ended: set[str] = set()
        for count, (name, wanted) in enumerate(selection.wanted.items(), 1):
            # Patterns that an earlier name has ended are no longer subscribed.
            patterns = [pattern for pattern in wanted if pattern not in ended]
            if self._has_any(patterns) or not waited.isdisjoint(patterns):
                gone.append(name)
            else:
                rejected.append(RejectedName(name, ErrorCode.NOT_SUBSCRIBED, "not subscribed"))
            ended.update(patterns)
            batch += patterns
            if len(batch) >= _END_PATTERNS or count == len(selection.wanted):
                self._stop(batch)
                batch = []
                yield
        return gone, rejected

    def _has_any(self, patterns: Collection[str]) -> bool:
        """Return whether one of these patterns is live or replaying."""
        if not self._subscriber.patterns.isdisjoint(patterns):
            return True
        coming = () if self._replay is None else self._replay.patterns
        return any(pattern in coming for pattern in patterns)

    def _stop(self, patterns: Collection[str]) -> None:
        self._hub.unsubscribe(self._subscriber, patterns)
        if self._replay is not None:
            self._replay.drop(patterns)

    async def restrict(self, time_slice: TimeSlice) -> None:
        """End subscriptions that a new JWT does not grant, also replaying ones."""
        # A command admitted by the previous JWT is executed first and then ended.
        await self._settled()
        subscriber, replay = self._subscriber, self._replay
        patterns = subscriber.patterns.union(replay.patterns if replay else ())
        if gone := await time_slice.run(self._restrict(patterns)):
            accepted = Accepted(gone, [], len(patterns) - len(gone))
            self._responder.respond(
                unsubscription_ack(None, subscriber.form.dialect, accepted, forced=True)
            )

    def _restrict(self, patterns: Collection[str]) -> Steps[list[str]]:
        grant = self._client.grant
        gone = []
        for count, pattern in enumerate(patterns, 1):
            if not grant.covers(pattern):
                gone.append(pattern)
            if not count % STEP_ITEMS:
                yield
        gone.sort()
        for begin in range(0, len(gone), _END_PATTERNS):
            self._stop(gone[begin : begin + _END_PATTERNS])
            yield
        return gone

    # ---- long work: one job after the other, in a task of the connection

    async def _work(self, job: Job | None) -> None:
        """Run a job, then the commands that arrived meanwhile."""
        time_slice = TimeSlice(self._context.scans.wait_for_work_slice)
        while job is not None:
            await job()
            job = None
            while job is None and self._waiting:
                prepared = self._prepared = trio.Event()
                try:
                    job = await self._job(self._waiting.take(), time_slice)
                except CommandError as error:
                    self._responder.reject_command(error)
                finally:
                    self._prepared = None
                    prepared.set()

    async def _job(self, command: StartCommand, time_slice: TimeSlice) -> Job | None:
        """Execute a command if it takes no time; otherwise return its job."""
        match command:
            case Subscribe(snapshot=False, since_ms=None) if self._can_ack_positions(command):
                is_plain = command.where is None and command.max_rate is None
                options = PLAIN if is_plain else self.admission.options(command)
                admitted = await time_slice.run(self._admit(command))
                self._subscribe(command, admitted, options)
                return None
            case Resend():
                return partial(resend, command, self._client, self._context, self._responder)
            case Reconnect():
                return self._replaying(await time_slice.run(self._reconnection(command)))
            case _:
                return self._replaying(await time_slice.run(self._replay_responses(command)))

    def _replaying(self, responses: ReplayResponses) -> Job:
        # Set here, so that `unsubscribe` finds the replay even before its task has started.
        self._replay = Replay(self._context, self._client, responses.start_position, responses)
        return partial(self._run, self._replay, responses.command)

    async def _run(self, replay: Replay, command: Subscribe | Resume | Reconnect) -> None:
        try:
            await replay.run()
        except ReplayUnavailable:
            message = (
                "Kafka has not responded in time, or too many clients wait for a replay; "
                "nothing has changed"
            )
            self._responder.reject_command(unavailable(command, ErrorCode.NOT_AVAILABLE, message))
        finally:
            self._replay = None

    # ---- immediate work

    def _can_ack_positions(self, command: Subscribe) -> bool:
        """Return whether the ack can have positions, if the client requests them."""
        return not command.positions or self._hub.stream.history_loaded.is_set()

    def _subscribe(
        self, command: Subscribe, admitted: Admitted, options: SubscriptionOptions
    ) -> None:
        """Make all admitted names live, and send the ack before their first message."""
        subscriber, hub = self._subscriber, self._hub
        names = admitted.names
        patterns = patterns_in(names)
        self.admission.spend(command, admitted.memory)
        self._on_begun(command)
        hub.subscribe(subscriber, patterns, options=options)
        needed = command.positions or hub.stream.is_partial
        topics = hub.stream.catalogue.topics_of(patterns) if needed else ()
        accepted = Accepted(
            list(names),
            admitted.rejected,
            len(subscriber.patterns),
            hub.stream.positions_of(topics) if command.positions else None,
            hub.stream.partitions_of(topics) if hub.stream.is_partial else None,
            hub.stream.categories_of(topics) if command.positions else None,
            hub.stream.ids_of(topics) or None if command.positions else None,
        )
        self._responder.respond(subscription_ack(command.id, subscriber.form.dialect, accepted))
        self._responder.went_live(topics)

    def _replay_responses(self, command: Subscribe | Resume) -> Steps[ReplayResponses]:
        """Replay only messages that were not sent already, so that none comes twice."""
        options = self.admission.options(command)
        admitted = yield from self._admit(command)
        self.admission.spend(command, admitted.memory + REPLAY_BYTES)
        patterns = patterns_in(admitted.names)
        start_position = start_position_of(command, patterns, self._hub, options)
        return self._begin_in(command, start_position, admitted.names, admitted.rejected)

    def _reconnection(self, command: Reconnect) -> Steps[ReplayResponses]:
        starts = starts_of(command, self._hub)
        self.admission.spend(command, (yield from self.admission.admit_all(command, starts)))
        names: Names = {pattern: (pattern,) for pattern in starts}
        return self._begin_in(command, StartPosition(ResumeCursor(starts)), names, [])

    def _admit(self, command: Subscribe | Resume) -> Steps[Admitted]:
        has_options = command.where is not None or command.max_rate is not None
        admitted = yield from self.admission.admit(command.selection, has_options=has_options)
        self._responder.count_rejected_names(admitted.rejected)
        return admitted

    def _begin_in(
        self,
        command: Subscribe | Resume | Reconnect,
        start_position: StartPosition,
        names: Names,
        rejected: Sequence[RejectedName],
    ) -> ReplayResponses:
        topics = self._hub.stream.catalogue.topics_of(patterns_in(names))
        return ReplayResponses(
            command,
            start_position,
            names,
            rejected,
            topics,
            self._hub,
            self._subscriber,
            self._responder,
            partial(self._on_begun, command),
            bool(self._subscriber.patterns) and not start_position.is_live,
        )

    def _on_begun(self, command: Subscribe | Resume | Reconnect) -> None:
        """Apply the options of a command with its subscriptions; a reconnect has none."""
        if not isinstance(command, Reconnect):
            # A client that resumes keeps positions, and gets them periodically as before.
            self._subscriber.wants_positions |= isinstance(command, Resume) or command.positions
            _set_delivery(self._client, self._hub, self._limits, command.delivery)
            if command.frames is not None:
                self._hub.write_as(self._subscriber, command.frames)


def _set_delivery(
    client: SubscriberConnection, hub: Hub, limits: SubscriptionLimits, delivery: Delivery | None
) -> None:
    """Set delivery to everything or to the latest while behind; None keeps it."""
    subscriber, send_queue = client.subscriber, client.send_queue
    if delivery is Delivery.LATEST and subscriber.conflation is None:
        mark = limits.threshold_bytes
        subscriber.conflation = Conflation(
            lambda: send_queue.backlog > mark, limits.held_bytes, client.close_as_slow
        )
        # The client is not slow while it reads anything: old messages are replaced.
        send_queue.check_slow(limits.stuck, by_progress=True)
    elif delivery is Delivery.ALL and subscriber.conflation is not None:
        hub.flush(subscriber)
        subscriber.conflation = None
        send_queue.check_slow(limits.grace)
