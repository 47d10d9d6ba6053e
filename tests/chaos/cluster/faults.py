"""The faults done to three brokers and their topics, one after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from odin_ws.testing.cluster import ClusterNode
from tests.chaos.cluster.stage import Stage
from tests.chaos.cluster.truth import Entry, State
from tests.integration.running_source import PATIENCE, eventually, until

__all__ = ["ALL", "SHORT", "Fault"]

AWAY_SECONDS: Final = 5
PAUSED_SECONDS: Final = 8
REVOKED_SECONDS: Final = 5

# The record of 5 MB that operators are asked about most, and the batch around it.
LARGE_BYTES: Final = 5 << 20
LARGE: Final = 5

# Records of each key that compaction has something to remove of.
COMPACTED: Final = 100

# Clients of an instance that is killed come back by themselves.
LOST: Final = frozenset({1006, 0})


@attrs.frozen
class Fault:
    """`strike` does it and returns when it is over.

    `closes`: whether connections end by it. A fault of Kafka ends none.
    """

    name: str
    does: str
    strike: Callable[[Stage], Awaitable[None]]
    closes: bool = False


async def _leader(stage: Stage) -> ClusterNode:
    return stage.cluster.node(await stage.cluster.leader(stage.topic("trade")))


async def _back(stage: Stage, node: ClusterNode) -> None:
    """Start a node, and let it lead what it led."""
    await node.start()
    partitions = range(6)
    for partition in partitions:
        await stage.cluster.synced(stage.topic("trade"), partition, {1, 2, 3})
    await stage.cluster.synced(stage.topic("cut"), 0, {2, 3})


async def stopped_leader(stage: Stage) -> None:
    """SIGTERM to a leader: it hands its partitions over before it ends."""
    node = await _leader(stage)
    await node.stop()
    await trio.sleep(AWAY_SECONDS)
    await _back(stage, node)


async def killed_leader(stage: Stage) -> None:
    """SIGKILL to a leader: others are elected when its session has ended."""
    node = await _leader(stage)
    await node.kill()
    await trio.sleep(AWAY_SECONDS)
    await _back(stage, node)


async def rolling_restart(stage: Stage) -> None:
    """Each broker in turn, as an upgrade does it."""
    for node in stage.cluster.nodes.nodes.values():
        await node.stop()
        await _back(stage, node)


async def paused_broker(stage: Stage) -> None:
    """SIGSTOP to a leader: its connections stay open, nothing is answered."""
    node = await _leader(stage)
    node.pause()
    await trio.sleep(PAUSED_SECONDS)
    node.unpause()
    for partition in range(6):
        await stage.cluster.synced(stage.topic("trade"), partition, {1, 2, 3})


async def moved_partitions(stage: Stage) -> None:
    """Reassign partitions to other nodes and back, and let the preferred ones lead."""
    topic = stage.topic("trade")
    for nodes in ([2, 3], [3, 1], [1, 2, 3]):
        for partition in (0, 3):
            await stage.cluster.reassign(topic, partition, nodes)
            await stage.cluster.elect(topic, partition)


async def added_partitions(stage: Stage) -> None:
    """A topic grows from one partition to four; its keys move to others."""
    await stage.caught_up("growing")
    await stage.cluster.add_partitions(stage.topic("growing"), 4)
    # The producer asks for the layout anew only after some seconds.
    stage.publisher.renew("growing")
    await eventually(lambda: _partitions(stage, "growing") > 1)


def _partitions(stage: Stage, category: str) -> int:
    entries = stage.truth.entries.values()
    return len({one.partition for one in entries if one.category == category} - {-1})


async def large_records(stage: Stage) -> None:
    """Some records of 5 MB among the small ones."""
    stage.publisher.publish("growing", LARGE, LARGE_BYTES)
    await stage.publisher.taken("growing")


async def revoked_right(stage: Stage) -> None:
    """READ on one topic is taken from the instances, and given back."""
    await stage.cluster.revoke("READ", stage.topic("guarded"))
    await trio.sleep(REVOKED_SECONDS)
    await stage.cluster.grant("READ", stage.topic("guarded"))


async def topic_made_anew(stage: Stage) -> None:
    """A topic is deleted and made anew at once, and gets more records than it had."""
    await _drained(stage, "anew")
    topic = stage.topic("anew")
    await stage.cluster.delete_topic(topic)
    await stage.cluster.create_topic(topic, replicas=[[2, 3, 1], [3, 1, 2]])
    stage.publisher.renew("anew")
    had = sum(one.category == "anew" for one in stage.truth.entries.values())
    stage.publisher.publish("anew", had + 20)
    await stage.publisher.taken("anew")
    stage.publisher.paused.discard("anew")


async def unclean_election(stage: Stage) -> None:
    """A leader alone with ten records is lost, and a node without them is elected."""
    await _drained(stage, "cut")
    cluster, topic = stage.cluster, stage.topic("cut")
    await cluster.node(3).kill()
    await cluster.synced(topic, 0, {2})
    stage.publisher.publish("cut", 10)
    await stage.caught_up("cut")
    await cluster.node(2).kill()
    await cluster.node(3).start()
    await cluster.led_by(topic, 0, -1)
    await cluster.elect(topic, unclean=True)
    await cluster.led_by(topic, 0, 3)
    await _back(stage, cluster.node(2))
    stage.publisher.renew("cut")
    stage.publisher.publish("cut", 30)
    await stage.publisher.taken("cut")
    stage.publisher.paused.discard("cut")


async def _drained(stage: Stage, category: str) -> None:
    """Publish no more to a topic, and wait until everybody has what there is."""
    stage.publisher.paused.add(category)
    await stage.caught_up(category)


async def history(stage: Stage) -> None:
    """Records are deleted before a live reader had them, and while clients are away.

    One instance is frozen and some clients are gone; the records published are deleted, but for the
    last records; then both come back.
    """
    topic = stage.topic("expiring")
    await _drained(stage, "expiring")
    gone = [one for one in stage.clients if one.seat.way == "by hand"][:2]
    for one in gone:
        one.away.value = True
    stage.instances[0].freeze()
    entries = stage.publisher.publish("expiring", 50)
    await stage.publisher.taken("expiring")
    await stage.cluster.delete_records(topic, 0, entries[40].offset)
    stage.instances[0].thaw()
    for one in gone:
        one.away.value = False
    stage.publisher.paused.discard("expiring")


async def transactions(stage: Stage) -> None:
    """One is committed, one aborted, and one hangs for some seconds before it is committed."""
    publisher = stage.publisher
    hanging, held = await publisher.transaction("transactions", 10)
    committed, taken = await publisher.transaction("transactions", 10)
    aborted, thrown = await publisher.transaction("transactions", 10)
    await aborted.abort()
    await committed.commit()
    await trio.sleep(AWAY_SECONDS)
    await hanging.commit()
    _ended(thrown, State.ABORTED)
    _ended([*held, *taken], State.TAKEN)


def _ended(entries: Sequence[Entry], state: State) -> None:
    for entry in entries:
        entry.state = state


async def compaction(stage: Stage) -> None:
    """Clients are away while most records of a topic are replaced by later ones of their keys."""
    gone = [one for one in stage.clients if one.seat.way == "by hand"][:2]
    for one in gone:
        one.away.value = True
    stage.publisher.publish("compacted", COMPACTED)
    await stage.publisher.taken("compacted")
    # A segment is cleaned when it is not the last one any more: a record after its time rolls it.
    await trio.sleep(AWAY_SECONDS)
    for one in gone:
        one.away.value = False


async def killed_instance(stage: Stage) -> None:
    """SIGKILL to each instance in turn: clients resume at the other, after all that was done."""
    for instance in stage.instances:
        await instance.kill()
        with trio.move_on_after(PATIENCE):
            await until(lambda: _all_connected(stage))
        await instance.start()


async def _all_connected(stage: Stage) -> bool:
    return all(one.connected for one in stage.clients)


ALL: Final[Sequence[Fault]] = (
    Fault("leader stopped", f"SIGTERM to a leader, start after {AWAY_SECONDS} s", stopped_leader),
    Fault("leader killed", f"SIGKILL to a leader, start after {AWAY_SECONDS} s", killed_leader),
    Fault("rolling restart", "SIGTERM to each broker in turn, and start", rolling_restart),
    Fault("broker paused", f"SIGSTOP to a leader, SIGCONT after {PAUSED_SECONDS} s", paused_broker),
    Fault("partitions moved", "reassignment and preferred election", moved_partitions),
    Fault("partitions added", "a topic grows from one partition to four", added_partitions),
    Fault("large records", f"{LARGE} records of 5 MB", large_records),
    Fault("right revoked", f"READ on a topic, for {REVOKED_SECONDS} s", revoked_right),
    Fault("topic made anew", "deleted and created with more records than before", topic_made_anew),
    Fault("unclean election", "ten acknowledged records are cut from a log", unclean_election),
    Fault("retention", "40 records deleted before a reader and a replay", history, closes=True),
    Fault("transactions", "one committed, one aborted, one hanging", transactions),
    Fault("compaction", "a replay over a log with holes", compaction),
    Fault(
        "instances killed",
        "SIGKILL to each instance in turn: everybody resumes",
        killed_instance,
        closes=True,
    ),
)

_OF_SHORT: Final = {
    "leader killed",
    "partitions added",
    "right revoked",
    "topic made anew",
    "retention",
    "transactions",
    "instances killed",
}
SHORT: Final = tuple(fault for fault in ALL if fault.name in _OF_SHORT)
