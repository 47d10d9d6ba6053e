"""franz-go's kfake as a child process: a Kafka with errors, leaders and versions set by a test.

`make tests/kfake/kfake` builds it if Go is installed. Nodes are numbered from 0.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tests.integration import kafka
from tests.integration.running_source import until
from tests.plain_http import plain_client

__all__ = ["REDPANDA", "WITHOUT_IDS", "Api", "Code", "Fault", "KFake", "run_kfake"]

BINARY: Final = Path(__file__).parents[1] / "kfake" / "kfake"

# A start takes 0.1 s, a response a millisecond; the rest is for a busy machine.
START_SECONDS: Final = 20
ANSWER_SECONDS: Final = 20


class Api(IntEnum):
    """Requests of the Kafka protocol, by their keys."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    SYNC_GROUP = 14
    API_VERSIONS = 18
    OFFSET_FOR_LEADER_EPOCH = 23


class Code(IntEnum):
    """Errors of the Kafka protocol."""

    UNKNOWN_SERVER_ERROR = -1
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    REPLICA_NOT_AVAILABLE = 9
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    ILLEGAL_GENERATION = 22
    UNKNOWN_MEMBER_ID = 25
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    KAFKA_STORAGE_ERROR = 56
    FETCH_SESSION_ID_NOT_FOUND = 70
    INVALID_FETCH_SESSION_EPOCH = 71
    FENCED_LEADER_EPOCH = 74
    UNKNOWN_LEADER_EPOCH = 75
    OFFSET_NOT_AVAILABLE = 78
    UNKNOWN_TOPIC_ID = 100
    INCONSISTENT_TOPIC_ID = 103
    FETCH_SESSION_TOPIC_ID_ERROR = 106


# A broker without topic ids, whose leader epochs no Metadata response confirms.
REDPANDA: Final = {Api.METADATA: 7, Api.FETCH: 11}
# Leader epochs that are confirmed, but no topic ids: Apache Kafka 2.4 to 2.7.
WITHOUT_IDS: Final = {Api.METADATA: 9, Api.FETCH: 12}


@attrs.frozen
class Fault:
    """Requests that are answered with an error, or only counted."""

    kfake: KFake
    number: int

    async def hits(self) -> int:
        """The number of requests answered or counted."""
        hits: int = await self.kfake.command("hits", fault=self.number)
        return hits

    async def hit(self, count: int = 1) -> None:
        """Wait until `count` requests were answered or counted. Raises trio.TooSlowError."""

        async def enough() -> bool:
            return await self.hits() >= count

        await until(enough, START_SECONDS)

    async def remove(self) -> None:
        """Answer these requests normally again."""
        await self.kfake.command("remove", fault=self.number)


@attrs.frozen
class KFake:
    """A running kfake."""

    bootstrap: str
    control: str

    async def command(self, do: str, **arguments: Any) -> Any:
        """Send a command of `tests/kfake/main.go`; returns its result."""
        async with plain_client(ANSWER_SECONDS) as client:
            response = await client.post(f"http://{self.control}/", json={"do": do, **arguments})
        assert response.is_success, response.text
        return response.json()

    async def fail(self, *apis: Api, error: Code, count: int = -1, **where: Any) -> Fault:
        """Answer these requests with an error, `count` times; -1: until the fault is removed.

        `where`: a `topic`, its `partitions`, a `group`, the `nodes`; by default all.
        `top_level=True`: the error is that of the whole response, if it has one; otherwise that of
        each topic, partition or group.
        """
        number: int = await self.command(
            "fault", keys=list(apis), error=error, count=count, **where
        )
        return Fault(self, number)

    async def watch(self, api: Api, topic: str = "", *, nodes: Sequence[int] = ()) -> Fault:
        """Count these requests, which are answered normally."""
        number: int = await self.command(
            "fault",
            keys=[api],
            topic=topic,
            nodes=list(nodes),
            count=-1,
            observe=True,
            top_level=not topic,
        )
        return Fault(self, number)

    async def clear(self) -> None:
        """Remove all faults and delays."""
        await self.command("clear")

    async def delay(self, api: Api, node: int, seconds: float) -> None:
        """Delay a node's responses to these requests by `seconds`, until `clear`."""
        await self.command("delay", keys=[api], node=node, seconds=seconds)

    async def create(
        self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> None:
        """Create a topic."""
        await self.command("create", topic=topic, amount=partitions, configs=configs or {})

    async def delete(self, topic: str) -> None:
        """Delete a topic."""
        await self.command("delete", topic=topic)

    async def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        await self.command("delete_records", topic=topic, partition=partition, offset=before)

    async def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition; -1 for a partition that does not exist."""
        node: int = await self.command("leader", topic=topic, partition=partition)
        return node

    async def move(self, topic: str, partition: int, node: int) -> None:
        """Let another node lead a partition, in a new epoch."""
        await self.command("move", topic=topic, partition=partition, node=node)

    async def rehash(self) -> None:
        """Move the coordinators of groups and transactions to other nodes."""
        await self.command("rehash")


@asynccontextmanager
async def run_kfake(
    topics: Mapping[str, int],
    *,
    brokers: int = 3,
    versions: Mapping[Api, int] | None = None,
    auto_create: bool = False,
) -> AsyncIterator[KFake]:
    """Run an in-memory cluster with these topics and numbers of partitions.

    `versions`: the highest version of each request; -1 for none. `auto_create`: a requested topic
    is created, if the request allows it. Without kfake the test is skipped, or fails if
    ODIN_REQUIRE_KAFKA=1.
    """
    if not BINARY.exists():
        kafka.missing("kfake is missing: `make test` builds it, given Go")
    command = [
        str(BINARY),
        *("--topics", ",".join(f"{name}:{count}" for name, count in topics.items())),
        *("--brokers", str(brokers)),
        *("--max-versions", ",".join(f"{key:d}:{top}" for key, top in (versions or {}).items())),
        *(["--auto-create"] if auto_create else []),
    ]
    process = await trio.lowlevel.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with trio.fail_after(START_SECONDS):
            head = b""
            while not head.endswith(b"\n"):
                more = await process.stdout.receive_some()
                assert more, f"kfake ended with status {await process.wait()}"
                head += more
        yield KFake(**json.loads(head))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):  # bounded by the kernel's work after SIGKILL
            await process.stdin.aclose()
            await process.stdout.aclose()
            await process.wait()
