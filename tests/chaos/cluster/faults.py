"""The faults of three brokers and their topics, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import trio

from odin_ws.testing.cluster import ClusterNode
from tests.chaos.cluster.testbed import Testbed
from tests.chaos.cluster.truth import Entry, State
from tests.integration.running_source import PATIENCE, until, wait_until

__all__ = ["ALL", "SHORT", "Fault"]

AWAY_SECONDS: Final = 5
PAUSED_SECONDS: Final = 8
REVOKED_SECONDS: Final = 5

# A batch with a record of 5 MB must fit into the limits of brokers and instances.
LARGE_BYTES: Final = 5 << 20
LARGE: Final = 5

# Records per key; compaction keeps the last one.
COMPACTED: Final = 100


@attrs.frozen
class Fault:
    """A fault of the cluster."""

    name: str
    does: str
    """The description of the fault."""
    inject: Callable[[Testbed], Awaitable[None]]
    """Causes the fault, and returns at its end."""
    closes: bool = False
    """Whether connections may close; no fault of Kafka closes any."""


async def _leader(testbed: Testbed) -> ClusterNode:
    return testbed.cluster.node(await testbed.cluster.leader(testbed.topic("trade")))


async def _back(testbed: Testbed, node: ClusterNode) -> None:
    """Start a node, and elect the node leader of its former partitions."""
    await node.start()
    partitions = range(6)
    for partition in partitions:
        await testbed.cluster.synced(testbed.topic("trade"), partition, {1, 2, 3})
    await testbed.cluster.synced(testbed.topic("cut"), 0, {2, 3})


async def stopped_leader(testbed: Testbed) -> None:
    """Stop a leader with SIGTERM: it hands over its partitions before it exits."""
    node = await _leader(testbed)
    await node.stop()
    await trio.sleep(AWAY_SECONDS)
    await _back(testbed, node)


async def killed_leader(testbed: Testbed) -> None:
    """Kill a leader with SIGKILL: new leaders are elected when its session expires."""
    node = await _leader(testbed)
    await node.kill()
    await trio.sleep(AWAY_SECONDS)
    await _back(testbed, node)


async def rolling_restart(testbed: Testbed) -> None:
    """Restart each broker in turn, as an upgrade does."""
    for node in testbed.cluster.nodes.nodes.values():
        await node.stop()
        await _back(testbed, node)


async def paused_broker(testbed: Testbed) -> None:
    """Freeze a leader with SIGSTOP: its connections stay open without responses."""
    node = await _leader(testbed)
    node.pause()
    await trio.sleep(PAUSED_SECONDS)
    node.unpause()
    for partition in range(6):
        await testbed.cluster.synced(testbed.topic("trade"), partition, {1, 2, 3})


async def moved_partitions(testbed: Testbed) -> None:
    """Reassign partitions to other nodes and back, and run a preferred leader election."""
    topic = testbed.topic("trade")
    for nodes in ([2, 3], [3, 1], [1, 2, 3]):
        for partition in (0, 3):
            await testbed.cluster.reassign(topic, partition, nodes)
            await testbed.cluster.elect(topic, partition)


async def added_partitions(testbed: Testbed) -> None:
    """Increase a topic from one partition to four: some keys move to other partitions."""
    await testbed.caught_up("growing")
    await testbed.cluster.add_partitions(testbed.topic("growing"), 4)
    # The producer refreshes its metadata after some seconds.
    testbed.publisher.renew("growing")
    await wait_until(lambda: _partitions(testbed, "growing") > 1)


def _partitions(testbed: Testbed, category: str) -> int:
    entries = testbed.truth.entries.values()
    return len({entry.partition for entry in entries if entry.category == category} - {-1})


async def large_records(testbed: Testbed) -> None:
    """Publish some records of 5 MB between the small ones."""
    testbed.publisher.publish("growing", LARGE, LARGE_BYTES)
    await testbed.publisher.acknowledged("growing")


async def revoked_permission(testbed: Testbed) -> None:
    """Revoke the instances' READ permission on one topic, and grant it again."""
    await testbed.cluster.revoke("READ", testbed.topic("guarded"))
    await trio.sleep(REVOKED_SECONDS)
    await testbed.cluster.grant("READ", testbed.topic("guarded"))


async def recreated_topic(testbed: Testbed) -> None:
    """Delete a topic, create it again at once, and publish more records than before."""
    await _drained(testbed, "recreated")
    topic = testbed.topic("recreated")
    await testbed.cluster.delete_topic(topic)
    await testbed.cluster.create_topic(topic, replicas=[[2, 3, 1], [3, 1, 2]])
    testbed.publisher.renew("recreated")
    had = sum(entry.category == "recreated" for entry in testbed.truth.entries.values())
    testbed.publisher.publish("recreated", had + 20)
    await testbed.publisher.acknowledged("recreated")
    testbed.publisher.paused.discard("recreated")


async def unclean_election(testbed: Testbed) -> None:
    """Kill the only leader with the last ten records; elect a node without these records."""
    await _drained(testbed, "cut")
    cluster, topic = testbed.cluster, testbed.topic("cut")
    await cluster.node(3).kill()
    await cluster.synced(topic, 0, {2})
    testbed.publisher.publish("cut", 10)
    # The producer would send an unacknowledged record again to the new leader, which lacks the
    # record: clients would receive the record at two offsets.
    await testbed.publisher.acknowledged("cut")
    await testbed.caught_up("cut")
    await cluster.node(2).kill()
    await cluster.node(3).start()
    await cluster.led_by(topic, 0, -1)
    await cluster.elect(topic, unclean=True)
    await cluster.led_by(topic, 0, 3)
    await _back(testbed, cluster.node(2))
    testbed.publisher.renew("cut")
    testbed.publisher.publish("cut", 30)
    await testbed.publisher.acknowledged("cut")
    testbed.publisher.paused.discard("cut")


async def _drained(testbed: Testbed, category: str) -> None:
    """Pause a topic's records, and wait until every client has those published so far."""
    testbed.publisher.paused.add(category)
    await testbed.publisher.acknowledged(category)
    await testbed.caught_up(category)


async def history(testbed: Testbed) -> None:
    """Delete records before a live reader and disconnected clients have read them.

    One instance is frozen and two clients are disconnected while 50 records are published and the
    first 40 of them are deleted; then all continue.
    """
    topic = testbed.topic("expiring")
    await _drained(testbed, "expiring")
    gone = [client for client in testbed.clients if client.spec.kind == "handwritten"][:2]
    for one in gone:
        one.away.value = True
    testbed.instances[0].freeze()
    entries = testbed.publisher.publish("expiring", 50)
    await testbed.publisher.acknowledged("expiring")
    await testbed.cluster.delete_records(topic, 0, entries[40].offset)
    testbed.instances[0].thaw()
    for one in gone:
        one.away.value = False
    testbed.publisher.paused.discard("expiring")


async def transactions(testbed: Testbed) -> None:
    """Commit one transaction, abort one, and commit one after several open seconds."""
    publisher = testbed.publisher
    hanging, in_hanging = await publisher.transaction("transactions", 10)
    committed, in_committed = await publisher.transaction("transactions", 10)
    aborted, in_aborted = await publisher.transaction("transactions", 10)
    await aborted.abort()
    await committed.commit()
    await trio.sleep(AWAY_SECONDS)
    await hanging.commit()
    _set_state(in_aborted, State.ABORTED)
    _set_state([*in_hanging, *in_committed], State.ACKNOWLEDGED)


def _set_state(entries: Sequence[Entry], state: State) -> None:
    for entry in entries:
        entry.state = state


async def compaction(testbed: Testbed) -> None:
    """Disconnect clients while later records of the same keys replace most of a topic."""
    gone = [client for client in testbed.clients if client.spec.kind == "handwritten"][:2]
    for one in gone:
        one.away.value = True
    testbed.publisher.publish("compacted", COMPACTED)
    await testbed.publisher.acknowledged("compacted")
    # The cleaner skips the last segment; the next record after `segment.ms` begins a new segment.
    await trio.sleep(AWAY_SECONDS)
    for one in gone:
        one.away.value = False


async def killed_instance(testbed: Testbed) -> None:
    """Kill each instance in turn with SIGKILL: its clients resume at the other instance."""
    for instance in testbed.instances:
        await instance.kill()
        with trio.move_on_after(PATIENCE):
            await until(lambda: _all_connected(testbed))
        await instance.start()


async def _all_connected(testbed: Testbed) -> bool:
    return all(client.connected for client in testbed.clients)


ALL: Final[Sequence[Fault]] = (
    Fault("leader stopped", f"SIGTERM to a leader, start after {AWAY_SECONDS} s", stopped_leader),
    Fault("leader killed", f"SIGKILL to a leader, start after {AWAY_SECONDS} s", killed_leader),
    Fault("rolling restart", "SIGTERM to each broker in turn, and start", rolling_restart),
    Fault("broker paused", f"SIGSTOP to a leader, SIGCONT after {PAUSED_SECONDS} s", paused_broker),
    Fault("partitions moved", "reassignment and preferred election", moved_partitions),
    Fault("partitions added", "a topic grows from one partition to four", added_partitions),
    Fault("large records", f"{LARGE} records of 5 MB", large_records),
    Fault("permission revoked", f"READ on a topic, for {REVOKED_SECONDS} s", revoked_permission),
    Fault("topic recreated", "deleted and created with more records than before", recreated_topic),
    Fault("unclean election", "ten acknowledged records are cut from a log", unclean_election),
    Fault("retention", "40 records deleted before a reader and a replay", history, closes=True),
    Fault("transactions", "one committed, one aborted, one hanging", transactions),
    Fault("compaction", "a replay over a log with holes", compaction),
    Fault(
        "instances killed",
        "SIGKILL to each instance in turn: every client resumes",
        killed_instance,
        closes=True,
    ),
)

_OF_SHORT: Final = {
    "leader killed",
    "partitions added",
    "permission revoked",
    "topic recreated",
    "retention",
    "transactions",
    "instances killed",
}
SHORT: Final = tuple(fault for fault in ALL if fault.name in _OF_SHORT)
