"""Checks Kafka's topics, permissions, retention and clock, by the responses of one broker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import trio

from odin_ws.catalogue import Catalogue
from odin_ws.cli.checks.findings import Findings
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable, error_text
from odin_ws.kafka.protocol import (
    MAX_TIMESTAMP,
    DescribeConfigsRequest,
    DescribeGroupRequest,
    FindCoordinatorRequest,
    GroupPermissions,
    ListOffsetsRequest,
    Metadata,
    MetadataRequest,
    Operation,
    TopicConfig,
    TopicLayout,
)
from odin_ws.records import TopicPartition
from odin_ws.settings import Settings

__all__ = ["ClusterCheck"]

# Kafka's error codes.
_UNKNOWN_TOPIC: Final = 3
_TOPIC_DENIED: Final = 29
_NO_COORDINATOR: Final = {14, 15, 16}

# Time for a group's coordinator to be found, and interval of requests for it.
_COORDINATOR_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.2

_RETENTION: Final = "retention.ms"
_POLICY: Final = "cleanup.policy"

# Allowed difference in seconds between a publisher's clock and this machine's.
_CLOCK_SECONDS: Final = 2.0


@attrs.define
class ClusterCheck:
    """Checks of the cluster by the responses of one broker."""

    findings: Findings
    client: KafkaClient
    node: int
    settings: Settings

    @property
    def _acls(self) -> str:
        """The beginning of the command that grants a permission to the user of the settings."""
        user = self.settings.kafka_sasl_username or "…"
        return f"kafka-acls --bootstrap-server … --add --allow-principal User:{user} --operation"

    async def run(self, catalogue: Catalogue) -> None:
        """Check topics, permissions, retention and clock."""
        dead = self.settings.kafka_dead_letter_topic
        names = [*catalogue.topics, *([dead] if dead else [])]
        try:
            metadata = await self.client.send(self.node, MetadataRequest(names, permissions=True))
        except KafkaUnavailable as failure:
            self.findings.fail("Kafka topics", str(failure), "see docs/kafka.md, Outages")
            return
        readable = [
            topic for topic in catalogue.topics if self._check_topic(topic, metadata.topics)
        ]
        if dead:
            self._check_dead_letters(dead, metadata.topics.get(dead))
        if self.settings.kafka_assignment == "group":
            await self._check_group(self.settings.kafka_consumer_group)
        if readable:
            await self._check_retention(readable)
            await self._check_clock(readable, metadata)

    def _check_topic(self, name: str, layouts: Mapping[str, TopicLayout]) -> bool:
        """Check one topic of the catalogue; returns whether it can be read."""
        check, layout = f"Kafka topic {name}", layouts.get(name)
        if layout is None or layout.error == _UNKNOWN_TOPIC:
            self.findings.fail(
                check,
                "does not exist, or is hidden from this user (DESCRIBE)",
                "`odin-ws topics create`, or correct the name in WS_CATALOGUE",
            )
            return False
        if layout.error == _TOPIC_DENIED:
            text = "not authorized to see the topic (DESCRIBE)"
            self.findings.fail(check, text, f"{self._acls} Read --topic {name}")
            return False
        if layout.error:
            self.findings.fail(check, error_text(layout.error), "see docs/kafka.md, Outages")
            return False
        return self._check_partitions(check, name, layout)

    def _check_partitions(self, check: str, name: str, layout: TopicLayout) -> bool:
        if layout.permissions is not None and Operation.READ not in layout.permissions:
            text = "not authorized to read the topic (READ)"
            self.findings.fail(check, text, f"{self._acls} Read --topic {name}")
            return False
        leaderless = sorted(
            key for key, partition in layout.partitions.items() if partition.leader is None
        )
        if leaderless:
            self.findings.fail(
                check,
                f"partitions without a leader: {_listed(leaderless)}",
                "start the brokers that have these partitions",
            )
        permissions = (
            "READ" if layout.permissions is not None else "this broker does not report permissions"
        )
        self.findings.ok(check, f"{len(layout.partitions)} partitions, {permissions}")
        return True

    def _check_dead_letters(self, name: str, layout: TopicLayout | None) -> None:
        check = f"dead letter queue {name}"
        if layout is None or layout.error:
            code = _UNKNOWN_TOPIC if layout is None else layout.error
            self.findings.fail(
                check,
                error_text(code, denied="not authorized to see the topic (DESCRIBE)"),
                f"create the topic, and {self._acls} Write --topic {name}",
            )
        elif layout.permissions is not None and Operation.WRITE not in layout.permissions:
            text = "not authorized to write to the topic (WRITE)"
            self.findings.fail(check, text, f"{self._acls} Write --topic {name}")
        else:
            permissions = (
                "WRITE"
                if layout.permissions is not None
                else "this broker does not report permissions"
            )
            self.findings.ok(check, f"{len(layout.partitions)} partitions, {permissions}")

    async def _check_group(self, group: str) -> None:
        check, action = f"consumer group {group}", f"{self._acls} Read --group {group}"
        try:
            described = await self._describe_group(group)
        except KafkaUnavailable as failure:
            self.findings.warn(
                check, f"permissions unknown: {failure}", "none, if the server joins the group"
            )
            return
        if described.error in _NO_COORDINATOR:
            self.findings.warn(
                check,
                f"no coordinator within {_COORDINATOR_SECONDS:g} s: {error_text(described.error)}",
                "check the topic __consumer_offsets and its brokers",
            )
        elif described.error:
            self.findings.fail(check, error_text(described.error), action)
        elif described.permissions is None:
            self.findings.ok(check, "has a coordinator, which does not report permissions")
        elif Operation.READ not in described.permissions:
            text = "not authorized to join the consumer group (READ)"
            self.findings.fail(check, text, action)
        else:
            self.findings.ok(check, "READ")

    async def _describe_group(self, group: str) -> GroupPermissions:
        """Return the group's state and permissions from its coordinator.

        Retries without a coordinator: the first group of a cluster takes a moment.
        """
        deadline = trio.current_time() + _COORDINATOR_SECONDS
        while True:
            coordinator = await self.client.send(self.node, FindCoordinatorRequest(group))
            described: GroupPermissions | None = GroupPermissions(coordinator.error, None)
            if not coordinator.error:
                described = await self.client.send(coordinator.node, DescribeGroupRequest(group))
            if described is None:
                return GroupPermissions(0, None)
            if described.error not in _NO_COORDINATOR or trio.current_time() >= deadline:
                return described
            await trio.sleep(_RETRY_SECONDS)

    async def _check_retention(self, topics: list[str]) -> None:
        """Compare the retention of each topic with the history from which a client can resume."""
        check = "Kafka retention"
        request = DescribeConfigsRequest(topics, [_RETENTION, _POLICY])
        try:
            configs = await self.client.send(self.node, request)
        except KafkaUnavailable as failure:
            self.findings.warn(check, f"unknown: {failure}", "none, if replays work")
            return
        if denied := sorted(name for name, config in configs.items() if config.error):
            self.findings.warn(
                check,
                f"unknown of {', '.join(denied)}: {error_text(configs[denied[0]].error)}",
                f"{self._acls} DescribeConfigs --topic …, for this check only",
            )
        known = {name: config for name, config in configs.items() if not config.error}
        self._evaluate_retention(check, known)
        if compacted := sorted(name for name, config in known.items() if _is_compacted(config)):
            self.findings.warn(
                check,
                f"{_POLICY} has compact: {', '.join(compacted)}; Kafka deletes older records of "
                "a key, so replays lack them",
                f"set {_POLICY}=delete",
            )

    def _evaluate_retention(self, check: str, configs: Mapping[str, TopicConfig]) -> None:
        history = self.settings.ws_history_seconds
        kept = {name: _seconds(config.values.get(_RETENTION)) for name, config in configs.items()}
        short = {name: s for name, s in kept.items() if s is not None and s < history}
        if short:
            listed = ", ".join(f"{name} {s:g} s" for name, s in short.items())
            self.findings.warn(
                check,
                f"less than WS_HISTORY_SECONDS={history:g}: {listed}; after a restart, clients "
                "that were away for longer lose records",
                "raise retention.ms, or accept that a resume reports lost ranges",
            )
        elif kept:
            self.findings.ok(check, f"every topic is kept for WS_HISTORY_SECONDS={history:g}")

    async def _check_clock(self, topics: list[str], metadata: Metadata) -> None:
        """Compare the youngest records' timestamps with this machine's clock."""
        check = "clock"
        times_by_leader: dict[int, dict[TopicPartition, int]] = {}
        for topic in topics:
            for number, partition in metadata.topics[topic].partitions.items():
                if partition.leader is not None:
                    times_by_leader.setdefault(partition.leader, {})[
                        TopicPartition(topic, number)
                    ] = MAX_TIMESTAMP
        stamps: list[int] = []
        failures: list[str] = []

        async def request(node: int, times: Mapping[TopicPartition, int]) -> None:
            try:
                found = await self.client.send(node, ListOffsetsRequest(times))
            except KafkaUnavailable as failure:
                failures.append(str(failure))
            else:
                stamps.extend(
                    found_offset.timestamp
                    for found_offset in found.values()
                    if not found_offset.error
                )

        async with trio.open_nursery() as nursery:
            for node, times in times_by_leader.items():
                nursery.start_soon(request, node, times)
        self._evaluate_clock(check, max(stamps, default=-1) / 1000, failures)

    def _evaluate_clock(self, check: str, youngest: float, failures: list[str]) -> None:
        ahead = youngest - time.time()
        if ahead > _CLOCK_SECONDS:
            self.findings.warn(
                check,
                f"the youngest record in Kafka is {ahead:.1f} s in the future",
                "synchronise the clocks of publishers, brokers and this machine (NTP): "
                "`ws_record_age_seconds` and `since_ms` depend on them",
            )
        elif youngest >= 0:
            self.findings.ok(check, f"the youngest record in Kafka is {-ahead:.0f} s old")
        elif failures:
            self.findings.ok(check, f"not compared with Kafka: {failures[0]}")
        else:
            self.findings.ok(check, "not compared with Kafka: there is no record")


def _is_compacted(config: TopicConfig) -> bool:
    return "compact" in (config.values.get(_POLICY) or "")


def _seconds(text: str | None) -> float | None:
    """Return `retention.ms` in seconds; None without a limit or if not returned."""
    if text is None or not text.isdecimal():
        # -1 stands for no limit.
        return None
    return int(text) / 1000


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
