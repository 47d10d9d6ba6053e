"""Authentication at Kafka by certificate, password or token; a rejection is logged, and retried."""

from __future__ import annotations

import base64
import gc
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs hide them
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from odin_ws.kafka.security import KafkaSecurity
from odin_ws.kafka.source_status import SourceState
from odin_ws.log_reader import Bounds
from odin_ws.records import TopicPartition
from odin_ws.settings import load_settings
from tests.authorization_server import halves, response, server_with
from tests.cli.commands import run_command
from tests.integration import kafka
from tests.integration.events import event
from tests.integration.running_log_reader import running
from tests.integration.running_source import (
    Publisher,
    Sent,
    feeding,
    new_topics,
    options,
    wait_until,
)
from tests.integration.secure_brokers import PASSWORD, USER, Secured, secured_kafka, token_for
from tests.integration.servers import connected, serving, started

Settings = Callable[[Secured, Path], dict[str, str]]

LOGIN = {"KAFKA_SASL_USERNAME": USER, "KAFKA_SASL_PASSWORD": PASSWORD}
WRONG = LOGIN | {"KAFKA_SASL_PASSWORD": "wrong horse"}


def by_certificate(secured: Secured, _: Path) -> dict[str, str]:
    """With our own certificate."""
    return secured.settings("tls", "SSL", **secured.identity)


def without_certificate(secured: Secured, _: Path) -> dict[str, str]:
    """Without the client certificate that the broker requires."""
    return secured.settings("tls", "SSL")


def with_another_host_name(secured: Secured, _: Path) -> dict[str, str]:
    """At a broker whose certificate has another name."""
    return secured.settings("stranger", "SSL")


def trusting_the_system(secured: Secured, _: Path) -> dict[str, str]:
    """Without the authority of the broker's certificate."""
    settings = secured.settings("tls", "SSL", **secured.identity)
    del settings["KAFKA_SSL_CAFILE"]
    return settings


def by_scram(mechanism: str, login: dict[str, str]) -> Settings:
    """As a user with SCRAM, which does not send the password."""

    def settings(secured: Secured, _: Path) -> dict[str, str]:
        return secured.settings("scram", "SASL_SSL", KAFKA_SASL_MECHANISM=mechanism, **login)

    return settings


def by_plain(login: dict[str, str]) -> Settings:
    """As a user with a password, over TLS."""
    return lambda secured, _: secured.settings("plain", "SASL_SSL", **login)


def by_unsupported_mechanism(secured: Secured, _: Path) -> dict[str, str]:
    """With a mechanism that the listener does not have."""
    return secured.settings("plain", "SASL_SSL", KAFKA_SASL_MECHANISM="SCRAM-SHA-256", **LOGIN)


def without_encryption(secured: Secured, _: Path) -> dict[str, str]:
    """As a user with a password, without TLS."""
    return secured.settings("clear", "SASL_PLAINTEXT", **LOGIN)


def without_sasl(secured: Secured, _: Path) -> dict[str, str]:
    """Without SASL, which the listener requires."""
    return secured.settings("clear", "PLAINTEXT")


def without_tls(secured: Secured, _: Path) -> dict[str, str]:
    """Without TLS, which the listener requires."""
    return secured.settings("tls", "PLAINTEXT")


def by_token(token: str | None) -> Settings:
    """With a token from a file."""

    def settings(secured: Secured, folder: Path) -> dict[str, str]:
        path = folder / "token"
        if token is not None:
            path.write_text(f"{token}\n", encoding="utf-8")
        oauth = {"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SASL_TOKEN_FILE": str(path)}
        return secured.settings("oauth", "SASL_SSL", **oauth)

    return settings


ACCEPTED_CREDENTIALS = {
    "certificate": by_certificate,
    "scram-256": by_scram("SCRAM-SHA-256", LOGIN),
    "scram-512": by_scram("SCRAM-SHA-512", LOGIN),
    "plain": by_plain(LOGIN),
    "token": by_token(token_for(USER)),
    "clear": without_encryption,
}
UNTRUSTED = "its certificate is not trusted: "
CLOSED = "closed the connection: it may need another KAFKA_SECURITY_PROTOCOL"
REJECTED = {
    "no-certificate": (without_certificate, "requires a client certificate (KAFKA_SSL_CERTFILE)"),
    "stranger": (with_another_host_name, f"{UNTRUSTED}IP address mismatch"),
    "authority": (trusting_the_system, f"{UNTRUSTED}unable to get local issuer"),
    "scram": (by_scram("SCRAM-SHA-512", WRONG), "authentication failed"),
    "plain": (by_plain(WRONG), "authentication failed"),
    "mechanism": (
        by_unsupported_mechanism,
        "does not offer SASL with KAFKA_SASL_MECHANISM=SCRAM-SHA-",
    ),
    "no-sasl": (without_sasl, CLOSED),
    "no-tls": (without_tls, CLOSED),
    "expired-token": (by_token(token_for(USER, -1000)), "rejects the token"),
    "bad-token": (by_token("nonsense"), "rejects the token"),
    "no-token": (by_token(None), "the file cannot be read: No such file or directory"),
    "words": (by_token("no token"), "the file contains no token"),
}


@pytest.fixture(autouse=True)
def collect_open_sockets() -> Iterator[None]:
    """Aiokafka does not wait until rejected connections have closed their sockets.

    A loop that goes on closes them; the loop of a test ends, so they are collected here.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def access_to(settings: dict[str, str]) -> KafkaSecurity:
    """Return the access settings of these variables."""
    return KafkaSecurity.from_settings(load_settings(settings)[0])


@pytest.mark.parametrize("way", ACCEPTED_CREDENTIALS)
async def test_source_and_log_reader_authenticate(
    way: str, secured: Secured, tmp_path: Path
) -> None:
    """Live records and replayed records arrive, with every mechanism."""
    (topic,) = topics = new_topics()
    await kafka.create_topics(secured.broker.bootstrap, topics, 1)
    reading = options("", security=access_to(ACCEPTED_CREDENTIALS[way](secured, tmp_path)))
    async with feeding(topics, reading) as source, running(reading) as log_reader:
        await Publisher(secured.broker.bootstrap).publish([Sent(topic, value=b'{"n":1}')])
        await source.received(1)
        assert source.values == [b'{"n":1}']
        partition = TopicPartition(topic, 0)
        assert await log_reader.bounds([partition]) == {partition: Bounds(0, 1)}


@pytest.mark.parametrize("way", REJECTED)
async def test_rejection_is_logged_with_the_brokers_reason(
    way: str, secured: Secured, tmp_path: Path
) -> None:
    """The source stays in its start phase; the reason is the broker's, not aiokafka's."""
    settings, reason = REJECTED[way]
    reading = options("", security=access_to(settings(secured, tmp_path)))
    async with feeding(kafka.TOPICS, reading, live=False) as source:
        await wait_until(lambda: reason in source.source_status.reason)
        assert source.source_status.state.value is SourceState.STARTING


@pytest.mark.parametrize("way", ["certificate", "scram-512", "token"])
async def test_commands_authenticate(way: str, secured: Secured, tmp_path: Path) -> None:
    """`topics` and `publish` use the settings of the server."""
    settings = ACCEPTED_CREDENTIALS[way](secured, tmp_path)
    listed = await run_command("topics", "list", **settings)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("yes") == len(kafka.TOPICS)
    published = await run_command("publish", "--seconds", "0.1", **settings)
    assert published.returncode == 0, published.stderr


async def test_rejected_command_prints_the_reason(secured: Secured, tmp_path: Path) -> None:
    """One line, exit status 1, without the password."""
    rejected = await run_command("topics", "list", **by_plain(WRONG)(secured, tmp_path))
    assert rejected.returncode == 1
    (line,) = rejected.stderr.splitlines()
    assert "authentication failed: Authentication failed: Invalid username or password" in line
    assert WRONG["KAFKA_SASL_PASSWORD"] not in line


async def test_rejected_server_retries_until_the_token_file_is_valid(
    secured: Secured, tmp_path: Path
) -> None:
    """Until then the log has one line and no traceback."""
    settings = by_token(token_for(USER, -1000))(secured, tmp_path)
    async with serving("", settings, ready=False, LOG_LEVEL="debug") as server:
        await wait_until(lambda: server.events("Kafka unavailable, retrying"))
        report = await server.health()
        assert "rejects the token" in report["errors"][0]
        (tmp_path / "token").write_text(token_for(USER), encoding="utf-8")
        await server.responses("/health/ready")
        reported = [event["reason"] for event in server.events("Kafka unavailable, retrying")]
        assert len(reported) == 1
        assert "Traceback" not in server.output


async def test_rejected_token_is_fetched_again(secured: Secured) -> None:
    """The log has the token server's and the broker's reasons, and no secret."""
    tokens = [token_for(USER, -1000), token_for(USER)]
    given: list[str] = []

    def authorize(request: bytes) -> bytes:
        head, form = halves(request)
        if base64.b64encode(b"odin-ws:horse") not in head:
            return response("401 Unauthorized", {"error": "invalid_client"})
        if b"scope=kafka" not in form:
            return response("400 Bad Request", {"error": "invalid_scope"})
        given.append(tokens[min(len(given), 1)])
        return response("200 OK", {"access_token": given[-1], "expires_in": 3600})

    oauth = {"KAFKA_SASL_MECHANISM": "OAUTHBEARER", "KAFKA_SASL_CLIENT_ID": "odin-ws"}
    oauth |= {"KAFKA_SASL_SCOPE": "kafka", "LOG_LEVEL": "debug"}
    async with server_with(authorize) as (url, _):
        settings = secured.settings("oauth", "SASL_SSL", **oauth, KAFKA_SASL_TOKEN_URL=url)
        wrong = settings | {"KAFKA_SASL_CLIENT_SECRET": "donkey"}
        async with serving("", wrong, ready=False) as server:
            await wait_until(lambda: server.events("Kafka unavailable, retrying"))
            (reported,) = server.events("Kafka unavailable, retrying")
            why = f"KAFKA_SASL_TOKEN_URL={url}: status 401, invalid_client"
            assert reported["reason"].endswith(why)
            assert "donkey" not in server.output + (await server.get("/health")).text
        async with serving("", settings | {"KAFKA_SASL_CLIENT_SECRET": "horse"}) as server:
            (reported,) = server.events("Kafka unavailable, retrying")
            assert f"rejects the token of {url}" in reported["reason"]
            assert given == tokens
            assert not [one for one in ("horse", *tokens) if one in server.output]
            assert "Traceback" not in server.output


@pytest.mark.parametrize("way", ["plain", "scram"])
async def test_server_logs_no_secret(way: str, secured: Secured, tmp_path: Path) -> None:
    """Neither the password nor what is made of it is in its log or health, at any level."""
    settings, _ = REJECTED[way]
    async with serving("", settings(secured, tmp_path), ready=False, LOG_LEVEL="debug") as server:
        await wait_until(lambda: server.events("Kafka unavailable, retrying"))
        health = (await server.get("/health")).text
        assert "authentication failed" in health
        assert "wrong horse" not in server.output + health


async def test_unencrypted_password_is_warned_about_once(secured: Secured, tmp_path: Path) -> None:
    """The setting is allowed; the start logs the warning."""
    async with serving("", without_encryption(secured, tmp_path)) as server:
        warned = [line for line in server.lines if "is sent unencrypted" in line]
        assert len(warned) == 1


async def test_changed_password_stalls_the_feed_until_it_is_restored(
    tmp_path: Path, token: str
) -> None:
    """The log has the reason once; then records arrive again."""
    async with secured_kafka(tmp_path) as own:
        settings = by_scram("SCRAM-SHA-256", LOGIN)(own, tmp_path)
        async with serving("", settings) as server, connected(server) as client:
            await client.subscribe(channels=[f"{token}.trade"])
            await change_password(own, "another one")
            await own.broker.stop()
            await own.broker.start()
            await wait_until(lambda: rejected(server.output))
            assert "authentication failed" in (await server.health())["errors"][0]
            await change_password(own, PASSWORD)
            await server.responses("/health")
            await Publisher(own.broker.bootstrap).publish([event(token, "trade")])
            await client.received(1)
            assert rejected(server.output) == 1
            assert "Traceback" not in server.output


def rejected(output: str) -> int:
    """How many of our lines tell of a rejection."""
    lines = [line for line in output.splitlines() if '"logger": "odin_ws' in line]
    return sum("authentication failed" in line for line in lines)


async def change_password(secured: Secured, password: str) -> None:
    """Give the user another one; connections that are open stay so."""
    admin = AdminClient({"bootstrap.servers": secured.broker.bootstrap})
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    change = UserScramCredentialUpsertion(USER, info, password.encode(), os.urandom(16))
    (future,) = admin.alter_user_scram_credentials([change]).values()
    await trio.to_thread.run_sync(future.result)


async def test_renewed_certificates_are_read_again(secured: Secured, tmp_path: Path) -> None:
    """A server with a wrong certificate connects once the files hold the right one."""
    certificate, key = tmp_path / "our.pem", tmp_path / "our.key"
    foreign = trustme.CA().issue_cert("odin-ws")
    foreign.cert_chain_pems[0].write_to_path(certificate)
    foreign.private_key_pem.write_to_path(key)
    settings = secured.settings("tls", "SSL")
    settings |= {"KAFKA_SSL_CERTFILE": str(certificate), "KAFKA_SSL_KEYFILE": str(key)}
    with started(settings) as server:
        await wait_until(lambda: server.events("Kafka unavailable, retrying"))
        key.write_bytes(secured.key.read_bytes())
        certificate.write_bytes(secured.certificate.read_bytes())
        await server.responses("/health/ready")


async def test_key_of_another_certificate_prevents_the_start(secured: Secured) -> None:
    """The line names both settings; the exit status is that of a usage error."""
    key = str(secured.key.with_name("broker.pem"))
    settings = secured.settings("tls", "SSL", **secured.identity | {"KAFKA_SSL_KEYFILE": key})
    with started(settings) as server:
        assert await server.ended() == 2
        (line,) = server.lines
        assert f"KAFKA_SSL_KEYFILE={key}" in line
        assert "KEY_VALUES_MISMATCH" in line
