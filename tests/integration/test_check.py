"""`odin-ws check` against real brokers and servers: its findings, and the actions it names."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from odin_ws.cli.checks.brokers import check_kafka
from odin_ws.cli.checks.configuration import check_configuration
from odin_ws.cli.checks.findings import Findings, Outcome
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.cli.commands import run_command
from tests.integration.cluster import Cluster, user_settings
from tests.integration.domain import Domain
from tests.integration.kfake import REDPANDA, run_kfake
from tests.integration.running_source import Publisher, Sent, until
from tests.integration.secure_brokers import PASSWORD, USER, Secured
from tests.integration.servers import serving
from tests.jwt_issuer import SECRET, issuer
from tests.listener.certificates import Authority

JWT: Final = {"WS_AUTH": "jwt", "WS_JWT_SECRET": SECRET}


@attrs.frozen
class Checked:
    """The output of a run: exit status, and outcome, text and action by check."""

    status: int
    outcome: str
    findings: list[dict[str, str]]

    def one(self, check: str, outcome: str) -> str:
        """The text of a check's only finding with this outcome."""
        found = [
            finding
            for finding in self.findings
            if (finding["check"], finding["outcome"]) == (check, outcome)
        ]
        assert len(found) == 1, self.findings
        assert bool(found[0]["action"]) is (outcome != "ok"), found
        return found[0]["text"]

    def failed(self) -> set[str]:
        """The names of failed checks."""
        return {finding["check"] for finding in self.findings if finding["outcome"] == "failed"}


async def check(*words: str, **settings: str) -> Checked:
    """Run the command; it never prints a traceback."""
    done = await run_command("check", "--json", *words, **settings)
    assert "Traceback" not in done.stderr, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return Checked(done.returncode, report["outcome"], report["findings"])


async def check_brokers(**settings: str) -> Checked:
    """What `odin-ws check` finds in settings and Kafka; in this process, which takes less CPU."""
    findings = Findings(lambda _: None)
    configuration = check_configuration(findings, settings)
    assert configuration is not None
    assert configuration.catalogue is not None
    assert configuration.security is not None
    await check_kafka(
        findings, configuration.settings, configuration.catalogue, configuration.security
    )
    report = findings.as_json()
    status = int(findings.outcome is Outcome.FAILED)
    return Checked(status, report["outcome"], report["findings"])


# ---- Kafka


async def test_complete_cluster_passes(topics: str) -> None:
    """Each topic is listed with partitions and permissions; an open cluster allows everything."""
    result = await check(KAFKA_BROKERS=topics, WS_HISTORY_SECONDS="10", **JWT)
    assert (result.status, result.failed()) == (0, set())
    assert result.one("Kafka topic odin.trades", "ok").endswith("partitions, READ")
    assert result.one(f"KAFKA_BROKERS {topics}", "ok") == "answers"
    assert "answers at" in result.one("Kafka broker 1", "ok")
    assert "WS_HISTORY_SECONDS=10" in result.one("Kafka retention", "ok")


async def test_output_has_a_line_per_check_and_a_summary(topics: str) -> None:
    """One line for each check, one for the action, and a summary."""
    done = await run_command("check", KAFKA_BROKERS=topics)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok       Kafka topic odin.trades") for line in lines)
    at = next(n for n, line in enumerate(lines) if line.startswith("warning  authentication"))
    assert lines[at + 1].startswith("         -> set WS_AUTH=jwt")
    assert lines[-1].endswith("0 failed")


async def test_no_reachable_broker_fails() -> None:
    """The address is named; no other check of Kafka runs."""
    (port,) = free_ports(1)
    result = await check(KAFKA_BROKERS=f"{LOOPBACK}:{port}", **JWT)
    assert result.status == 1
    assert result.failed() == {f"KAFKA_BROKERS {LOOPBACK}:{port}"}


async def test_one_unreachable_address_of_two_is_a_warning(domain: Domain) -> None:
    """The server would start, so it is a warning."""
    (port,) = free_ports(1)
    nobody = f"{LOOPBACK}:{port}"
    async with run_kfake(dict.fromkeys(domain.topics, 2), brokers=1) as kfake:
        brokers = f"{nobody},{kfake.bootstrap}"
        result = await check_brokers(KAFKA_BROKERS=brokers, **domain.settings, **JWT)
        assert result.failed() == set()
        assert "another address answers" in result.one(f"KAFKA_BROKERS {nobody}", "warning")


async def test_hanging_broker_fails_in_time() -> None:
    """It accepts connections and answers nothing; the check ends in time."""
    listeners = await trio.open_tcp_listeners(0, host=LOOPBACK)
    port = listeners[0].socket.getsockname()[1]
    begun = time.monotonic()
    result = await check("--seconds", "3", KAFKA_BROKERS=f"{LOOPBACK}:{port}", **JWT)
    assert time.monotonic() - begun < 20
    assert result.status == 1
    assert "not finished after 3 s" in result.one("time", "failed")
    # A service that does not answer is named with its step, and Kafka is checked all the same.
    url = ("--url", f"ws://{LOOPBACK}:{port}/ws")
    (nobody,) = free_ports(1)
    result = await check("--seconds", "4", *url, KAFKA_BROKERS=f"{LOOPBACK}:{nobody}", **JWT)
    assert "not done after 2.0 s" in result.one("service upgrade", "failed")
    assert result.one(f"KAFKA_BROKERS {LOOPBACK}:{nobody}", "failed") == "connection refused"
    for listener in listeners:
        await listener.aclose()


async def test_missing_topic_fails(domain: Domain) -> None:
    """The other topics are fine."""
    async with run_kfake(dict.fromkeys(domain.topics[1:], 2)) as kfake:
        result = await check_brokers(KAFKA_BROKERS=kfake.bootstrap, **domain.settings, **JWT)
        assert result.failed() == {f"Kafka topic {domain.trade}"}
        assert "does not exist" in result.one(f"Kafka topic {domain.trade}", "failed")


async def test_lost_broker_is_named_with_its_partitions(cluster: Cluster, domain: Domain) -> None:
    """The broker is named with its address, and so are the partitions without a leader."""
    for topic in domain.topics[1:]:
        await cluster.create_topic(topic)
    await cluster.create_topic(domain.trade, replicas=[[1], [3]])
    settings = {"KAFKA_BROKERS": cluster.bootstrap} | domain.settings | JWT
    await cluster.node(3).kill()
    topic = f"Kafka topic {domain.trade}"

    async def noticed() -> bool:
        result = await check_brokers(**settings)
        found = [finding for finding in result.findings if finding["check"] == topic]
        return any(one["text"] == "partitions without a leader: 1" for one in found)

    await until(noticed, 60)


async def test_broker_without_optional_requests_passes(domain: Domain) -> None:
    """It reports neither permissions nor a newest record, which is not a failure."""
    async with run_kfake(dict.fromkeys(domain.topics, 2), versions=REDPANDA) as kfake:
        result = await check_brokers(KAFKA_BROKERS=kfake.bootstrap, **domain.settings, **JWT)
        assert (result.status, result.failed()) == (0, set())
        text = result.one(f"Kafka topic {domain.trade}", "ok")
        assert text == "2 partitions, this broker does not report permissions"


@pytest.fixture
async def restricted(cluster: Cluster, domain: Domain) -> Cluster:
    """The cluster with all topics, of which our user may read all."""
    for topic in domain.topics:
        await cluster.create_topic(topic, 2)
        await cluster.grant("READ", topic)
    return cluster


async def test_missing_permissions_are_named(restricted: Cluster, domain: Domain) -> None:
    """READ, DESCRIBE, the group's READ, WRITE of the dead letter queue; then all is granted."""
    group, dead = uuid.uuid4().hex, f"{domain.trade}.dead"
    await restricted.create_topic(dead)
    await restricted.grant("DESCRIBE", dead)
    await restricted.revoke("READ", domain.trade)
    await restricted.revoke("READ", domain.social)
    await restricted.grant("DESCRIBE", domain.social)
    settings = user_settings(restricted.nodes) | domain.settings | JWT
    settings |= {
        "KAFKA_ASSIGNMENT": "group",
        "KAFKA_CONSUMER_GROUP": group,
        "KAFKA_DEAD_LETTER_TOPIC": dead,
    }
    result = await check_brokers(**settings)
    assert result.status == 1
    assert "DESCRIBE" in result.one(f"Kafka topic {domain.trade}", "failed")
    assert "(READ)" in result.one(f"Kafka topic {domain.social}", "failed")
    assert "READ" in result.one(f"consumer group {group}", "failed")
    assert "WRITE" in result.one(f"dead letter queue {dead}", "failed")
    # The server does not need permissions to read settings.
    assert "unknown of" in result.one("Kafka retention", "warning")
    await restricted.grant("DESCRIBE", group=group)
    assert "(READ)" in (await check_brokers(**settings)).one(f"consumer group {group}", "failed")
    await restricted.grant("READ", domain.trade)
    await restricted.grant("READ", domain.social)
    await restricted.grant("READ", group=group)
    await restricted.grant("WRITE", dead)
    result = await check_brokers(**settings)
    assert (result.status, result.failed()) == (0, set())
    assert "READ" in result.one(f"consumer group {group}", "ok")
    assert "WRITE" in result.one(f"dead letter queue {dead}", "ok")


async def test_retention_is_compared_with_history(cluster: Cluster, domain: Domain) -> None:
    """It warns if Kafka deletes records sooner than memory, or compacts a topic."""
    await cluster.create_topic(domain.trade, config={"retention.ms": "30000"})
    await cluster.create_topic(domain.social, config={"cleanup.policy": "compact"})
    await cluster.create_topic(domain.balances, config={"retention.ms": "-1"})
    await cluster.create_topic(domain.creation)
    brokers = {"KAFKA_BROKERS": cluster.bootstrap}
    result = await check_brokers(WS_HISTORY_SECONDS="300", **brokers, **domain.settings, **JWT)
    assert result.status == 0
    texts = [
        finding["text"] for finding in result.findings if finding["check"] == "Kafka retention"
    ]
    assert any(f"WS_HISTORY_SECONDS=300: {domain.trade} 30 s;" in text for text in texts)
    assert any(f"compact: {domain.social};" in text for text in texts)
    result = await check_brokers(WS_HISTORY_SECONDS="30", **brokers, **domain.settings, **JWT)
    assert "every topic" in result.one("Kafka retention", "ok")


async def test_record_of_the_future_is_a_wrong_clock(cluster: Cluster, domain: Domain) -> None:
    """The clock of a publisher, the broker, or this machine."""
    for topic in domain.topics:
        await cluster.create_topic(topic)
    settings = {"KAFKA_BROKERS": cluster.bootstrap} | domain.settings | JWT
    assert "there is no record" in (await check_brokers(**settings)).one("clock", "ok")
    publisher = Publisher(cluster.bootstrap)
    now = int(time.time() * 1000)
    await publisher.publish([Sent(domain.trade, b"T", b"{}", 0, now - 60_000)])
    assert "s old" in (await check_brokers(**settings)).one("clock", "ok")
    await publisher.publish([Sent(domain.social, b"T", b"{}", 0, now + 60_000)])
    assert "in the future" in (await check_brokers(**settings)).one("clock", "warning")


async def test_rejection_by_the_broker_has_its_reason(secured: Secured) -> None:
    """The broker's reason is shown; with the right password the rest is checked."""
    settings = secured.settings("scram", "SASL_SSL", KAFKA_SASL_MECHANISM="SCRAM-SHA-256")
    settings |= {"KAFKA_SASL_USERNAME": USER, **JWT}
    address = settings["KAFKA_BROKERS"]
    result = await check(KAFKA_SASL_PASSWORD="wrong", **settings)  # noqa: S106 -- the point
    assert "authentication failed" in result.one(f"KAFKA_BROKERS {address}", "failed")
    assert "wrong" not in json.dumps(result.findings)
    result = await check(KAFKA_SASL_PASSWORD=PASSWORD, **settings)
    assert result.one(f"KAFKA_BROKERS {address}", "ok") == "answers"


async def test_invalid_settings_end_the_check(topics: str) -> None:
    """Status 2, with every mistake at once."""
    result = await check(KAFKA_BROKERS=topics, WS_WORKERS="0", WS_MAX_FRAME_BYTES="1")
    assert (result.status, result.outcome) == (2, "failed")
    assert len(result.findings) == 2


# ---- a running server


@pytest.fixture
def nowhere() -> str:
    """An address without a broker."""
    return f"{LOOPBACK}:{free_ports(1)[0]}"


async def test_running_server_passes_each_step(nowhere: str) -> None:
    """Each step is timed, and the clocks are compared; the server counts one client."""
    async with serving(nowhere, ready=False, WS_CANARY_SECONDS="0") as server:
        url = f"ws://{LOOPBACK}:{server.port}/ws"
        result = await check("--url", url, "--no-kafka", **JWT)
        assert (result.status, result.failed()) == (0, set())
        for step in ("connect", "upgrade", "subscribe", "heartbeat", "close"):
            assert result.one(f"service {step}", "ok").endswith(" ms")
        assert "differs by 0.0 s" in result.one("service clock", "ok")
        assert await server.metric("ws_connections_total") == 1
        result = await check("--url", url.replace("/ws", "/nothing"), "--no-kafka", **JWT)
        assert "HTTP 404" in result.one("service upgrade", "failed")
    result = await check("--url", url, "--no-kafka", **JWT)
    assert "refused" in result.one("service connect", "failed").lower()


async def test_server_with_tokens_needs_one(nowhere: str, tmp_path: Path) -> None:
    """Without a token 401; a token with few grants needs one of its channels."""
    token = issuer("HS256").token(channels=["BTC.trade"])
    file = tmp_path / "token.jwt"
    file.write_text(f"{token}\n")
    async with serving(nowhere, JWT, ready=False) as server:
        words = ("--url", f"ws://{LOOPBACK}:{server.port}/ws", "--no-kafka")
        result = await check(*words, **JWT)
        assert "HTTP 401" in result.one("service upgrade", "failed")
        result = await check(*words, ODIN_WS_TOKEN=token, **JWT)
        assert "FORBIDDEN" in result.one("service subscribe", "failed")
        granted = (*words, "--channel", "BTC.trade")
        assert (await check(*granted, ODIN_WS_TOKEN=token, **JWT)).status == 0
        assert (await check(*granted, "--token-file", str(file), **JWT)).status == 0
        result = await check(*granted, "--token-file", str(tmp_path / "none"), **JWT)
        assert "cannot be read" in result.one("service token", "failed")
        result = await check(*granted, ODIN_WS_TOKEN="two words", **JWT)  # noqa: S106 -- no token
        assert "no spaces" in result.one("service token", "failed")


async def test_server_with_tls_has_its_certificate_checked(nowhere: str, tmp_path: Path) -> None:
    """The chain and the name are checked, and the days until expiry are shown."""
    authority = Authority(tmp_path)
    tls = {"WS_TLS_CERT": str(authority.chain), "WS_TLS_KEY": str(authority.key)}
    ca = tmp_path / "ca.pem"
    authority.write_ca(ca)
    async with serving(nowhere, tls, ready=False) as server:
        words = ("--url", f"wss://{LOOPBACK}:{server.port}/ws", "--no-kafka")
        result = await check(*words, **JWT)
        assert "certificate" in result.one("service tls", "failed")
        result = await check(*words, SSL_CERT_FILE=str(ca), **JWT)
        assert result.failed() == set()
        assert "valid for" in result.one("service certificate", "ok")
        plain = ("--url", f"ws://{LOOPBACK}:{server.port}/ws", "--no-kafka")
        assert "HTTP 400 this port requires TLS" in (await check(*plain, **JWT)).one(
            "service upgrade", "failed"
        )
