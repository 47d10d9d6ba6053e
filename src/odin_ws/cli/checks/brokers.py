"""Checks that Kafka's brokers respond, at their configured and their advertised addresses."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from odin_ws.catalogue import Catalogue
from odin_ws.cli.checks.cluster import ClusterCheck
from odin_ws.cli.checks.findings import Findings
from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import KafkaUnavailable
from odin_ws.kafka.protocol import MetadataRequest
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.settings import Settings

__all__ = ["check_kafka"]

# Timeout of a connection to a broker, and of each response.
_RESPONSE_SECONDS: Final = 5.0

# The operator's action for an address that does not respond, by words of the reason. The first
# entry whose words the reason has applies.
_ADDRESS: Final = "check the address, the network, and that a Kafka broker listens there"
_ADDRESS_ACTIONS: Final = (
    ("not a host name", "correct the name"),
    ("does not resolve", "correct the name, or look for the cause in DNS"),
    (
        "connection refused",
        "start the broker, or correct the address: no process listens at the port",
    ),
    (
        "authentication failed",
        "correct KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or KAFKA_SASL_MECHANISM",
    ),
    ("does not offer SASL", "set KAFKA_SASL_MECHANISM to one of the broker's mechanisms"),
    ("rejects the token", "correct the token's issuer and audience (docs/kafka.md, Security)"),
    (
        "not valid for",
        "use the name in the broker's certificate, or issue a certificate for this name",
    ),
    ("has expired", "renew the broker's certificate"),
    ("not trusted", "set KAFKA_SSL_CAFILE to the authority of the broker's certificate"),
    (
        "client certificate",
        "set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE to a certificate that the broker accepts",
    ),
    (
        "KAFKA_SECURITY_PROTOCOL",
        "set KAFKA_SECURITY_PROTOCOL to that of the broker's listener, or use the port of another "
        "listener",
    ),
    (
        "does not speak TLS",
        "set KAFKA_SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT, or use the port with TLS",
    ),
)


async def check_kafka(
    findings: Findings, settings: Settings, catalogue: Catalogue, security: KafkaSecurity
) -> None:
    """Check brokers, topics, permissions, retention and clock; changes nothing in Kafka."""
    if not await _check_addresses(findings, security):
        return
    client = KafkaClient(security, _RESPONSE_SECONDS)
    async with client.running():
        try:
            await client.metadata([])
        except KafkaUnavailable as failure:
            # The broker responded a moment ago, and does not respond now.
            findings.fail("Kafka", str(failure), "see docs/kafka.md, Outages")
            return
        node = await _check_brokers(findings, client)
        if node is None:
            return
        check = ClusterCheck(findings, client, node, settings)
        await check.run(catalogue)


async def _check_addresses(findings: Findings, security: KafkaSecurity) -> bool:
    """Check each address of KAFKA_BROKERS; returns whether one responds."""
    results: dict[str, str | None] = {}

    async def connect(address: str) -> None:
        client = KafkaClient(attrs.evolve(security, brokers=(address,)), _RESPONSE_SECONDS)
        async with client.running():
            try:
                await client.metadata([])
            except KafkaUnavailable as failure:
                results[address] = str(failure).removeprefix(f"{address}: ")
            else:
                results[address] = None

    async with trio.open_nursery() as nursery:
        for address in security.brokers:
            nursery.start_soon(connect, address)
    answered = None in results.values()
    for address in security.brokers:
        reason = results[address]
        if reason is None:
            findings.ok(f"KAFKA_BROKERS {address}", "answers")
        elif answered:
            findings.warn(
                f"KAFKA_BROKERS {address}",
                f"{reason}; another address answers",
                "correct or remove the address: the server needs one that answers at each start",
            )
        else:
            findings.fail(
                f"KAFKA_BROKERS {address}",
                reason,
                next((action for words, action in _ADDRESS_ACTIONS if words in reason), _ADDRESS),
            )
    return answered


async def _check_brokers(findings: Findings, client: KafkaClient) -> int | None:
    """Check each broker at its advertised address; returns a responding broker, or None."""
    failures: dict[int, str] = {}

    async def request(node: int) -> None:
        try:
            await client.send(node, MetadataRequest([]))
        except KafkaUnavailable as failure:
            failures[node] = str(failure)

    nodes = sorted(client.brokers)
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(request, node)
    for node in nodes:
        address = client.brokers[node]
        if node in failures:
            findings.fail(
                f"Kafka broker {node}",
                failures[node],
                "make the address reachable from here, or correct the broker's "
                "advertised.listeners: partitions that it leads are not read",
            )
        else:
            findings.ok(f"Kafka broker {node}", f"answers at {address}")
    return next((node for node in nodes if node not in failures), None)
