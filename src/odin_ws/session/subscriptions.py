"""One client's subscriptions: how they begin, live or in the past, and how they end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final, NamedTuple, Protocol

import trio

from odin_ws.auth.grants import Grant, not_granted
from odin_ws.connection.outbox import Outbox
from odin_ws.handshake.retry_after import retry_ms
from odin_ws.history import Want
from odin_ws.hub import Conflation
from odin_ws.pattern import ANY, Pattern
from odin_ws.protocol.commands import (
    Delivery,
    Reconnect,
    Resend,
    Resume,
    Subscribe,
    Unsubscribe,
    size_of,
)
from odin_ws.protocol.errors import CommandError, ErrorCode
from odin_ws.protocol.responses import (
    Accepted,
    replay_complete,
    resend_incomplete,
    subscription_ack,
    unsubscription_ack,
)
from odin_ws.protocol.selection import Rejection, Selection
from odin_ws.records import TopicPartition
from odin_ws.resume import Beginning, Caller, NotNow, Replay, ReplayContext, Resumed
from odin_ws.resume.responses import Answers, Past
from odin_ws.session.deferred_commands import Beginner, WaitingCommands
from odin_ws.session.subscription_limits import (
    REPLAY_BYTES,
    SubscriptionLimits,
    memory_of_patterns,
    size_of_patterns,
)
from odin_ws.steps import STEP_ITEMS, Steps
from odin_ws.time_slice import TimeSlice

__all__ = ["Client", "Subscriptions"]

# Patterns that are unsubscribed from in one step: where a replay reads the log a step costs as much
# as all patterns of the replay.
_END_PATTERNS: Final = 256

# Of messages sent again, so many at once; then the client must have taken them.
_RESEND_MESSAGES: Final = 100

_NO_MEMORY: Final = "the server is short of memory; nothing has changed"

Job = Callable[[], Awaitable[None]]
Names = dict[str, Sequence[str]]


class _Admitted(NamedTuple):
    """The names that are granted and have room, with their patterns, and the others.

    `memory`: bytes that the patterns will take.
    """

    names: Names
    rejected: list[Rejection]
    memory: int


class Client(Caller, Protocol):
    """A connection, as its subscriptions see it."""

    outbox: Outbox
    grant: Grant

    def start(self, task: Job) -> None:
        """Run a task that ends with the connection."""
        ...

    def fall_behind(self) -> None:
        """Close: it is too slow."""
        ...


class Subscriptions:
    """Carries out the commands that change what a client gets."""

    __slots__ = (
        "_answers",
        "_busy",
        "_client",
        "_context",
        "_hub",
        "_limits",
        "_prepared",
        "_replay",
        "_subscriber",
        "_waiting",
    )

    def __init__(
        self, client: Client, context: ReplayContext, limits: SubscriptionLimits, answers: Answers
    ) -> None:
        self._client = client
        self._subscriber = client.subscriber
        self._context = context
        self._hub = context.hub
        self._limits = limits
        self._answers = answers
        self._replay: Replay | None = None
        self._busy = False
        self._waiting: WaitingCommands | None = None
        # While a command that has waited is carried out: set when it is live or on its way.
        self._prepared: trio.Event | None = None

    async def begin(self, command: Beginner, time_slice: TimeSlice) -> None:
        """Start sending, now or when the replay that is under way has ended."""
        if not self._busy:
            job = await self._job(command, time_slice)
            if job is not None:
                self._busy = True
                self._client.start(partial(self._work, job))
        else:
            self._wait(command)

    def _wait(self, command: Beginner) -> None:
        if self._waiting is None:
            self._waiting = WaitingCommands()
        if not self._waiting.admits(command):
            message = "too many commands wait for the end of a replay; this one was ignored"
            raise _not_now(command, ErrorCode.RATE_LIMIT_EXCEEDED, message)
        if not self._limits.take_waiting(size_of(command)):
            raise _not_now(command, ErrorCode.NOT_AVAILABLE, _NO_MEMORY)
        self._waiting.append(command)

    async def end(self, command: Unsubscribe, time_slice: TimeSlice) -> None:
        """Stop sending, also what is on its way to be live, and what a waiting command names."""
        waited: AbstractSet[str] = frozenset()
        if self._waiting:
            patterns = _patterns(command.selection.wanted)
            waited = await time_slice.run(self._waiting.drop(patterns))
        await self._settled()
        gone, rejected = await time_slice.run(self._end(command.selection, waited))
        self._answers.reject(rejected)
        subscriber, replay = self._subscriber, self._replay
        count = len(subscriber.patterns.union(replay.patterns if replay else ()))
        self._answers.answer(
            unsubscription_ack(command.id, subscriber.dialect, Accepted(gone, rejected, count))
        )

    async def _settled(self) -> None:
        """Wait while a command is carried out that has waited for its turn.

        What it subscribes to is not to be found yet, neither live nor on its way.
        """
        while self._prepared is not None:
            await self._prepared.wait()

    def _end(
        self, selection: Selection, waited: AbstractSet[str]
    ) -> Steps[tuple[list[str], list[Rejection]]]:
        """Stop sending names; returns those that were sent, and the rejections."""
        gone: list[str] = []
        rejected = list(selection.rejected)
        several: list[str] = []
        ended: set[str] = set()
        for count, (name, wanted) in enumerate(selection.wanted.items(), 1):
            # What an earlier name has ended is not subscribed to any more.
            patterns = [pattern for pattern in wanted if pattern not in ended]
            if self._has_any(patterns) or not waited.isdisjoint(patterns):
                gone.append(name)
            else:
                rejected.append(Rejection(name, ErrorCode.NOT_SUBSCRIBED, "not subscribed"))
            ended.update(patterns)
            several += patterns
            if len(several) >= _END_PATTERNS or count == len(selection.wanted):
                self._stop(several)
                several = []
                yield
        return gone, rejected

    def _has_any(self, patterns: Collection[str]) -> bool:
        """Whether any of these is live, or on its way to be."""
        if not self._subscriber.patterns.isdisjoint(patterns):
            return True
        coming = () if self._replay is None else self._replay.patterns
        return any(pattern in coming for pattern in patterns)

    def _stop(self, patterns: Collection[str]) -> None:
        self._hub.unsubscribe(self._subscriber, patterns)
        if self._replay is not None:
            self._replay.drop(patterns)

    async def restrict(self, time_slice: TimeSlice) -> None:
        """End what a new token does not grant any more, also what is on its way to be live."""
        # A command that was judged by the token before is carried out first, and then ended.
        await self._settled()
        subscriber, replay = self._subscriber, self._replay
        patterns = subscriber.patterns.union(replay.patterns if replay else ())
        if gone := await time_slice.run(self._restrict(patterns)):
            accepted = Accepted(gone, [], len(patterns) - len(gone))
            self._answers.answer(
                unsubscription_ack(None, subscriber.dialect, accepted, forced=True)
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

    # ---- what takes time: one after the other, in a task of the connection's

    async def _work(self, job: Job | None) -> None:
        """Do a job, then what has come meanwhile."""
        time_slice = TimeSlice(self._context.scans.work_turn)
        while job is not None:
            await job()
            job = None
            while job is None and self._waiting:
                prepared = self._prepared = trio.Event()
                try:
                    job = await self._job(self._waiting.take(), time_slice)
                except CommandError as error:
                    self._answers.refuse(error)
                finally:
                    self._prepared = None
                    prepared.set()
        self._busy = False

    async def _job(self, command: Beginner, time_slice: TimeSlice) -> Job | None:
        """Carry a command out where that takes no time; else return what is to be done for it."""
        match command:
            case Subscribe(snapshot=False, since_ms=None) if self._can_tell(command):
                self._subscribe(command, await time_slice.run(self._admit(command.selection)))
                return None
            case Resend():
                return partial(self._send_again, command)
            case Reconnect():
                return self._replaying(await time_slice.run(self._reconnection(command)))
            case _:
                return self._replaying(await time_slice.run(self._past(command)))

    def _replaying(self, past: Past) -> Job:
        # It can be unsubscribed from now on, not only when its task has had a turn.
        self._replay = Replay(self._context, self._client, past.beginning, past)
        return partial(self._run, self._replay, past.command)

    async def _run(self, replay: Replay, command: Subscribe | Resume | Reconnect) -> None:
        try:
            await replay.run()
        except NotNow:
            message = "the log does not answer in time, or too many ask; nothing has changed"
            self._answers.refuse(_not_now(command, ErrorCode.NOT_AVAILABLE, message))
        finally:
            self._replay = None

    async def _send_again(self, command: Resend) -> None:
        subscriber = self._subscriber
        time_slice = TimeSlice(self._context.scans.work_turn)
        newest = subscriber.seq
        oldest, messages = await time_slice.run(self._hub.sent(subscriber))
        newest = max(newest, oldest + len(messages) - 1)
        last = newest if command.last is None else min(command.last, newest)
        first = max(command.first, oldest)
        wanted = messages[first - oldest : max(0, last - oldest + 1)]
        for begin in range(0, len(wanted), _RESEND_MESSAGES):
            await self._client.drained()
            await time_slice.yield_control()
            several = wanted[begin : begin + _RESEND_MESSAGES]
            self._hub.send_again(subscriber, several, first + begin)
        self._answers.charge(len(wanted))
        if command.first < oldest:
            missing = command.first, min(oldest - 1, last)
            answer = resend_incomplete(command.id, len(wanted), missing)
        else:
            answer = replay_complete(command.id, len(wanted))
        self._answers.answer(answer)

    # ---- what takes none

    def _can_tell(self, command: Subscribe) -> bool:
        """Whether we know where we are, where the client wants to know it."""
        return not command.positions or self._hub.intake.filled.is_set()

    def _subscribe(self, command: Subscribe, admitted: _Admitted) -> None:
        """Make names live, all at once, and answer before any message of theirs comes."""
        subscriber, hub = self._subscriber, self._hub
        names = admitted.names
        patterns = _patterns(names)
        self._spend(command, admitted.memory)
        self._settle(command)
        hub.subscribe(subscriber, patterns)
        needed = command.positions or hub.partial
        topics = hub.intake.catalogue.topics_of(patterns) if needed else ()
        accepted = Accepted(
            list(names),
            admitted.rejected,
            len(subscriber.patterns),
            hub.positions(topics) if command.positions else None,
            hub.partitions(topics) if hub.partial else None,
            hub.categories(topics) if command.positions else None,
            hub.ids(topics) or None if command.positions else None,
        )
        self._answers.answer(subscription_ack(command.id, subscriber.dialect, accepted))

    def _past(self, command: Subscribe | Resume) -> Steps[Past]:
        """What was sent already is not sent again: nothing comes twice."""
        admitted = yield from self._admit(command.selection)
        names, rejected = admitted.names, admitted.rejected
        self._spend(command, admitted.memory + REPLAY_BYTES)
        topics = self._hub.intake.catalogue.topics_of(_patterns(names))
        positions: dict[TopicPartition, int] = {}
        if isinstance(command, Resume):
            positions = {key: at for key, at in command.positions.items() if key.topic in topics}
        want = Want(dict.fromkeys(_patterns(names), positions))
        if isinstance(command, Resume):
            ids = {topic: one for topic, one in command.ids.items() if topic in topics}
            resumed = Resumed(command.topics, ids)
            beginning = Beginning(want, snapshot=command.snapshot, resumed=resumed)
        else:
            since = command.since_ms
            beginning = Beginning(want, since, live=since is None, snapshot=command.snapshot)
        return self._begin_in(command, beginning, names, rejected)

    def _reconnection(self, command: Reconnect) -> Steps[Past]:
        starts = {channel: dict(positions) for channel, positions in command.last_positions.items()}
        if command.last_offsets is not None:
            starts = {
                Pattern(ANY, self._hub.intake.catalogue.topics[topic].category).text: {
                    self._only_partition(topic, command): offset
                }
                for topic, offset in command.last_offsets.items()
            }
        most = self.most_patterns
        if len(self._subscriber.patterns.union(starts)) > most:
            raise CommandError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                f"at most {most} subscriptions per connection",
                command.id,
                command="reconnect",
            )
        missing: list[str] = []
        memory = REPLAY_BYTES
        for count, pattern in enumerate(starts, 1):
            missing += self._client.grant.missing([pattern])
            memory += self._memory_of([pattern])
            if not count % STEP_ITEMS:
                yield
        if missing:
            raise CommandError(
                ErrorCode.FORBIDDEN, not_granted(missing), command.id, command="reconnect"
            )
        if self._limits.room(self._subscriber.patterns.union(starts)) < 0:
            raise CommandError(
                ErrorCode.TOO_MANY_SUBSCRIPTIONS,
                self._limits.no_room,
                command.id,
                command="reconnect",
            )
        self._spend(command, memory)
        want = Want(starts)
        names: Names = {pattern: (pattern,) for pattern in starts}
        return self._begin_in(command, Beginning(want), names, [])

    def _begin_in(
        self,
        command: Subscribe | Resume | Reconnect,
        beginning: Beginning,
        names: Names,
        rejected: Sequence[Rejection],
    ) -> Past:
        topics = self._hub.intake.catalogue.topics_of(_patterns(names))
        return Past(
            command,
            beginning,
            names,
            rejected,
            topics,
            self._hub,
            self._subscriber,
            self._answers,
            partial(self._settle, command),
            bool(self._subscriber.patterns) and not beginning.is_live,
        )

    def _only_partition(self, topic: str, command: Reconnect) -> TopicPartition:
        partitions = self._hub.partitions([topic])[topic]
        if len(partitions) != 1:
            raise CommandError(
                ErrorCode.INVALID_MESSAGE,
                f"data.last_offset.{topic}: an offset says nothing without its partition, of which "
                f"there are {len(partitions)}; send last_pos, or resume with positions",
                command.id,
                command="reconnect",
            )
        return TopicPartition(topic, partitions[0])

    def _admit(self, selection: Selection) -> Steps[_Admitted]:
        """Which names are granted and have room."""
        grant, most = self._client.grant, self.most_patterns
        rejected = list(selection.rejected)
        names: Names = {}
        patterns = set(self._subscriber.patterns)
        room = self._limits.room(patterns)
        handled = memory = 0
        for name, wanted in selection.wanted.items():
            handled += len(wanted)
            if handled >= STEP_ITEMS:
                handled = 0
                yield
            if missing := grant.missing(wanted):
                rejected.append(Rejection(name, ErrorCode.FORBIDDEN, not_granted(missing)))
            elif len(patterns) + len({one for one in wanted if one not in patterns}) > most:
                message = f"at most {most} subscriptions per connection"
                rejected.append(Rejection(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message))
            elif (size := size_of_patterns({*wanted} - patterns)) > room:
                message = self._limits.no_room
                rejected.append(Rejection(name, ErrorCode.TOO_MANY_SUBSCRIPTIONS, message))
            else:
                room -= size
                for begin in range(0, len(wanted), STEP_ITEMS):
                    memory += self._memory_of(wanted[begin : begin + STEP_ITEMS])
                    if begin:
                        yield
                patterns.update(wanted)
                names[name] = wanted
        self._answers.reject(rejected)
        return _Admitted(names, rejected, memory)

    def _memory_of(self, patterns: Collection[str]) -> int:
        own = self._subscriber.patterns
        new = [one for one in patterns if one not in own]
        return memory_of_patterns(new, self._hub.has_subscriber)

    def _spend(self, command: Beginner, size: int) -> None:
        """Count the memory that a command takes, in bytes. Raises CommandError."""
        if not self._limits.take(size):
            raise _not_now(command, ErrorCode.NOT_AVAILABLE, _NO_MEMORY)

    @property
    def most_patterns(self) -> int:
        """What the client may have, by the settings and its token."""
        own = self._client.grant.max_subscriptions
        return self._limits.patterns if own is None else min(own, self._limits.patterns)

    def _settle(self, command: Subscribe | Resume | Reconnect) -> None:
        """What takes effect with a command's subscriptions; a reconnect changes nothing else."""
        if not isinstance(command, Reconnect):
            # Who resumes keeps positions, and has to be told of them as before.
            self._subscriber.follows |= isinstance(command, Resume) or command.positions
            self._deliver_as(command.delivery)

    def _deliver_as(self, delivery: Delivery | None) -> None:
        """Change what the connection is sent while it is behind; None leaves it."""
        subscriber, outbox = self._subscriber, self._client.outbox
        if delivery is Delivery.LATEST and subscriber.conflation is None:
            mark = self._limits.mark_bytes
            subscriber.conflation = Conflation(
                lambda: outbox.backlog > mark, self._limits.held_bytes, self._client.fall_behind
            )
            # It is not late as long as it takes something: what is old is replaced.
            outbox.judge(self._limits.stuck, by_progress=True)
        elif delivery is Delivery.ALL and subscriber.conflation is not None:
            self._hub.flush(subscriber)
            subscriber.conflation = None
            outbox.judge(self._limits.grace)


def _not_now(command: Beginner, code: ErrorCode, message: str) -> CommandError:
    """Nothing is wrong with the command; a reconnect has errors of its own."""
    kind = "reconnect" if isinstance(command, Reconnect) else None
    return CommandError(code, message, command.id, kind, retry=True, retry_ms=retry_ms())


def _patterns(names: Mapping[str, Sequence[str]]) -> list[str]:
    return [pattern for patterns in names.values() for pattern in patterns]
