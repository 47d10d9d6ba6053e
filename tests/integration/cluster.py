"""Three Apache Kafka brokers, and the commands of an administrator."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import attrs
import trio
from confluent_kafka import ElectionType, Producer, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs hide them
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from odin_ws.testing.cluster import ApacheCluster, ClusterNode
from odin_ws.testing.ports import LOOPBACK
from tests.integration.running_source import PATIENCE, Sent, until

__all__ = ["PASSWORD", "USER", "Cluster", "Transaction", "user_settings"]

T = TypeVar("T")

USER: Final = "odin"
PASSWORD: Final = "horse"  # noqa: S105 -- of a broker in this test

_ADMIN: Final = {"socket.timeout.ms": 5000, "log_level": 0, "reconnect.backoff.max.ms": 500}

# AlterPartitionReassignments, version 0, which librdkafka does not have.
_REASSIGN: Final = 45

_SECONDS_TO_ADMINISTER: Final = 30


def user_settings(cluster: ApacheCluster) -> dict[str, str]:
    """The settings of a server that logs in as `USER`, which may do only what ACLs allow."""
    return {
        "KAFKA_BROKERS": cluster.user_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
    }


@attrs.frozen
class Cluster:
    """The nodes, and the commands of an administrator."""

    nodes: ApacheCluster
    # It must outlive its requests: their results are lost with it.
    _admin: AdminClient = attrs.field(init=False)

    @_admin.default
    def _open_admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, **_ADMIN})

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes."""
        return self.nodes.bootstrap

    def node(self, number: int) -> ClusterNode:
        """A node by its id."""
        return self.nodes.nodes[number]

    # ---- topics

    async def create_topic(
        self,
        name: str,
        partitions: int = 1,
        *,
        replicas: Sequence[Sequence[int]] | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic, and wait until each partition has a leader.

        `replicas`: the nodes of each partition, the preferred leader first; by default three of
        all.
        """
        if replicas is None:
            topic = NewTopic(name, partitions, 3, config=dict(config or {}))
        else:
            partitions = len(replicas)
            assignment = [list(nodes) for nodes in replicas]
            topic = NewTopic(
                name, partitions, replica_assignment=assignment, config=dict(config or {})
            )
        await _all_done(self._admin.create_topics([topic]).values())
        await until(lambda: self._is_led(name, range(partitions)), _SECONDS_TO_ADMINISTER)

    async def create_topics(self, names: Iterable[str]) -> None:
        """Create topics with one partition and three replicas each."""
        for name in names:
            await self.create_topic(name)

    async def delete_topic(self, name: str) -> None:
        """Delete a topic, and wait until no node knows it."""
        await _all_done(self._admin.delete_topics([name]).values())

        async def gone() -> bool:
            return await _in_thread(lambda: name not in self._admin.list_topics(timeout=5).topics)

        await until(gone, _SECONDS_TO_ADMINISTER)

    async def add_partitions(self, name: str, total: int) -> None:
        """Grow a topic to `total` partitions, and wait until each has a leader."""
        await _all_done(self._admin.create_partitions([NewPartitions(name, total)]).values())
        await until(lambda: self._is_led(name, range(total)), _SECONDS_TO_ADMINISTER)

    async def configure_topic(self, name: str, **config: str) -> None:
        """Set settings of a topic; a dot in a name is written as an underscore."""
        entries = [
            ConfigEntry(
                key.replace("_", "."),
                value,
                incremental_operation=AlterConfigOpType.SET,
            )
            for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        await _all_done(self._admin.incremental_alter_configs([resource]).values())

    async def delete_records(self, name: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        places = [Place(name, partition, before)]
        await _all_done(self._admin.delete_records(places).values())

    # ---- leaders

    async def leader(self, name: str, partition: int = 0) -> int:
        """The node that leads a partition; -1 for none."""
        return int((await self._partitions(name))[partition].leader)

    async def in_sync(self, name: str, partition: int = 0) -> set[int]:
        """The in-sync replicas of a partition."""
        return set((await self._partitions(name))[partition].isrs)

    async def led_by(self, name: str, partition: int, node: int) -> None:
        """Wait until a partition has this leader; -1 for none."""

        async def led() -> bool:
            return await self.leader(name, partition) == node

        await until(led, _SECONDS_TO_ADMINISTER)

    async def synced(self, name: str, partition: int, nodes: Collection[int]) -> None:
        """Wait until exactly these nodes are in-sync replicas of a partition."""

        async def synced() -> bool:
            return await self.in_sync(name, partition) == set(nodes)

        await until(synced, _SECONDS_TO_ADMINISTER)

    async def elect(self, name: str, partition: int = 0, *, unclean: bool = False) -> None:
        """Elect the preferred replica, or with `unclean` one that lacks records."""
        kind = ElectionType.UNCLEAN if unclean else ElectionType.PREFERRED
        await _in_thread(self._admin.elect_leaders(kind, [Place(name, partition)]).result)

    async def reassign(self, name: str, partition: int, nodes: Sequence[int]) -> None:
        """Move a partition to these nodes, the preferred leader first; wait until it is done."""
        with trio.fail_after(_SECONDS_TO_ADMINISTER):
            stream = await trio.open_tcp_stream(LOOPBACK, self._alive().port)
            async with stream:
                await stream.send_all(_reassignment(name, partition, nodes))
                response = b""
                while (
                    len(response) < 4 or len(response) < 4 + struct.unpack_from(">i", response)[0]
                ):
                    more = await stream.receive_some()
                    assert more, "the connection was closed"
                    response += more
        # Size, correlation id, tagged fields, throttle time; then the error of the whole.
        (error,) = struct.unpack_from(">h", response, 4 + 4 + 1 + 4)
        assert error == 0, f"error {error}"

        async def moved() -> bool:
            found = (await self._partitions(name))[partition]
            return set(found.replicas) == set(nodes) == set(found.isrs)

        await until(moved, _SECONDS_TO_ADMINISTER)

    # ---- permissions

    async def grant(self, operation: str, topic: str = "", *, group: str = "") -> None:
        """Allow `USER` an operation (READ, DESCRIBE …) on a topic or a consumer group."""
        binding = _acl(AclBinding, operation, topic, group)
        await _all_done(self._admin.create_acls([binding]).values())

    async def revoke(self, operation: str, topic: str = "", *, group: str = "") -> None:
        """Revoke a permission."""
        found = _acl(AclBindingFilter, operation, topic, group)
        await _all_done(self._admin.delete_acls([found]).values())

    # ---- internals

    def _alive(self) -> ClusterNode:
        return next(node for node in self.nodes.nodes.values() if node.running)

    async def _is_led(self, name: str, partitions: Iterable[int]) -> bool:
        found = await self._partitions(name)
        return all(n in found and found[n].leader >= 0 for n in partitions)

    async def _partitions(self, name: str) -> dict[int, Any]:
        topics = await _in_thread(lambda: self._admin.list_topics(name, timeout=5).topics)
        return dict(topics[name].partitions)

    async def topic_id(self, name: str) -> str:
        """The id of a topic."""
        futures = self._admin.describe_topics(TopicCollection([name]))
        described = await _in_thread(futures[name].result)
        return str(described.topic_id)


class Transaction:
    """A transaction that the test commits, aborts, or leaves open."""

    def __init__(self, bootstrap: str, seconds: float = 600, codec: str = "none") -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "compression.type": codec,
                "transactional.id": uuid.uuid4().hex,
                # Kafka aborts an open transaction after this time.
                "transaction.timeout.ms": int(seconds * 1000),
                "log_level": 0,
            }
        )

    async def write(self, records: Iterable[Sent]) -> None:
        """Begin if necessary, and write records that read-committed consumers do not see yet."""
        await _in_thread(lambda: self._write(list(records)))

    def _write(self, records: list[Sent]) -> None:
        self._producer.init_transactions(PATIENCE)
        self._producer.begin_transaction()
        for record in records:
            self._producer.produce(
                record.topic, record.value, record.key, partition=record.partition
            )
        self._producer.flush(PATIENCE)

    async def commit(self) -> None:
        """Commit: consumers see its records."""
        await _in_thread(lambda: self._producer.commit_transaction(PATIENCE))

    async def abort(self) -> None:
        """Abort: consumers never see its records."""
        await _in_thread(lambda: self._producer.abort_transaction(PATIENCE))


def _acl(make: Callable[..., T], operation: str, topic: str, group: str) -> T:
    return make(
        ResourceType.GROUP if group else ResourceType.TOPIC,
        group or topic,
        ResourcePatternType.LITERAL,
        f"User:{USER}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )


def _reassignment(topic: str, partition: int, nodes: Sequence[int]) -> bytes:
    """Encode a request for AlterPartitionReassignments; see https://kafka.apache.org/protocol.

    In a compact array or string the length is one more, here always below 128 and so one byte.
    """
    name = topic.encode()
    replicas = bytes([len(nodes) + 1]) + struct.pack(f">{len(nodes)}i", *nodes)
    one = struct.pack(">i", partition) + replicas + b"\0"
    topics = b"\2" + bytes([len(name) + 1]) + name + b"\2" + one + b"\0"
    head = struct.pack(">hhih", _REASSIGN, 0, 1, -1) + b"\0"
    body = struct.pack(">i", 30_000) + topics + b"\0"
    return struct.pack(">i", len(head) + len(body)) + head + body


async def _all_done(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        await _in_thread(future.result)


async def _in_thread(call: Callable[[], T]) -> T:
    # A broker may be down, and a blocked thread must not delay the end of a test.
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
