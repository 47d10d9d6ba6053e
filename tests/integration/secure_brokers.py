"""An Apache Kafka that requires authentication, and the settings for each of its listeners."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from odin_ws.testing.brokers import ApacheKafka, BrokerListener, BrokerListeners, apache_kafka
from odin_ws.testing.ports import LOOPBACK
from tests.integration import kafka

__all__ = [
    "PASSWORD",
    "USER",
    "Secured",
    "kafka_with_acls",
    "kafka_with_password",
    "key_file",
    "secured_kafka",
    "token_for",
]

USER: Final = "odin"
# With what is special in SCRAM's messages and in a shell.
PASSWORD: Final = "correct=horse; $battery"  # noqa: S105 -- of a broker in this test

_KAFKA_MODULES: Final = "org.apache.kafka.common.security"


@attrs.frozen
class Secured:
    """A broker with a listener for each kind of security.

    `tls`: requires a client certificate. `stranger`: has a certificate for another name. `scram`,
    `plain` and `oauth`: over TLS. `clear`: SASL without TLS.
    """

    broker: ApacheKafka
    ca: Path
    certificate: Path
    key: Path

    def settings(self, listener: str, protocol: str, **more: str) -> dict[str, str]:
        """The settings that lead to a listener; over TLS with the right authority."""
        settings = {
            "KAFKA_BROKERS": self.broker.address(listener),
            "KAFKA_SECURITY_PROTOCOL": protocol,
        }
        if protocol.endswith("SSL"):
            settings["KAFKA_SSL_CAFILE"] = str(self.ca)
        return settings | more

    @property
    def identity(self) -> dict[str, str]:
        """The settings of our own certificate."""
        return {
            "KAFKA_SSL_CERTFILE": str(self.certificate),
            "KAFKA_SSL_KEYFILE": str(self.key),
        }


def token_for(user: str, seconds: float = 3600) -> str:
    """An unsecured JSON web token, which Kafka takes where nothing else is configured."""
    now = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + seconds})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    return b".".join(encoded).decode() + "."


def key_file(path: Path, pem: bytes, password: bytes | None = None) -> Path:
    """Write a private key in the one format that Kafka reads."""
    encryption: KeySerializationEncryption = (
        NoEncryption() if password is None else BestAvailableEncryption(password)
    )
    key = load_pem_private_key(pem, None)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return path


@asynccontextmanager
async def secured_kafka(directory: Path) -> AsyncIterator[Secured]:
    """Run it, with everything it needs in `directory`."""
    authority = trustme.CA()
    ca = directory / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    ours = authority.issue_cert("odin-ws")
    certificate = directory / "odin-ws.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in ours.cert_chain_pems))
    key = key_file(directory / "odin-ws.key", ours.private_key_pem.bytes())

    tls = {
        **_keystore(directory / "broker.pem", authority.issue_cert(LOOPBACK)),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca),
    }
    stranger = _keystore(directory / "stranger.pem", authority.issue_cert("kafka.example"))
    login = f"{_KAFKA_MODULES}.plain.PlainLoginModule required"
    plain = _sasl("PLAIN", f'{login} user_{USER}="{PASSWORD}";')
    scram = _sasl("SCRAM-SHA-256", f"{_KAFKA_MODULES}.scram.ScramLoginModule required;")
    scram |= _sasl("SCRAM-SHA-512", f"{_KAFKA_MODULES}.scram.ScramLoginModule required;")
    scram["sasl.enabled.mechanisms"] = "SCRAM-SHA-256,SCRAM-SHA-512"
    module = f"{_KAFKA_MODULES}.oauthbearer.OAuthBearerLoginModule required"
    oauth = _sasl("OAUTHBEARER", f'{module} unsecuredLoginStringClaim_sub="broker";')
    listeners = {
        "tls": BrokerListener("SSL", tls | {"ssl.client.auth": "required"}),
        "stranger": BrokerListener("SSL", stranger),
        "scram": BrokerListener("SASL_SSL", tls | scram),
        "plain": BrokerListener("SASL_SSL", tls | plain),
        "oauth": BrokerListener("SASL_SSL", tls | oauth),
        "clear": BrokerListener("SASL_PLAINTEXT", plain),
    }
    broker_listeners = BrokerListeners(listeners, {USER: PASSWORD})
    async with apache_kafka(kafka.libs(), directory, broker_listeners=broker_listeners) as broker:
        await kafka.create_topics(broker.bootstrap)
        yield Secured(broker, ca, certificate, key)


@asynccontextmanager
async def kafka_with_acls(
    directory: Path, authority: trustme.CA, administrator: str, password: str
) -> AsyncIterator[str]:
    """Run one that allows its users what ACLs grant, and the administrator everything.

    Users log in by SCRAM, over TLS with a certificate of `authority`. Yields its address.
    """
    ca = directory / "authority.pem"
    authority.cert_pem.write_to_path(ca)
    listener = {
        **_keystore(directory / "broker.pem", authority.issue_cert(LOOPBACK)),
        **_sasl("SCRAM-SHA-512", f"{_KAFKA_MODULES}.scram.ScramLoginModule required;"),
    }
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The broker itself comes without a name, by the listener without TLS.
        "super.users": f"User:ANONYMOUS;User:{administrator}",
    }
    listeners = {"users": BrokerListener("SASL_SSL", listener)}
    async with apache_kafka(
        kafka.libs(),
        directory,
        config=config,
        broker_listeners=BrokerListeners(listeners, {administrator: password}),
    ) as broker:
        yield broker.address("users")


@asynccontextmanager
async def kafka_with_password(
    directory: Path, config: Mapping[str, str]
) -> AsyncIterator[tuple[ApacheKafka, str]]:
    """Run one with a listener that wants `USER`'s password; yields it and that address."""
    login = f"{_KAFKA_MODULES}.plain.PlainLoginModule required"
    plain = _sasl("PLAIN", f'{login} user_{USER}="{PASSWORD}";')
    listeners = {"users": BrokerListener("SASL_PLAINTEXT", plain)}
    async with apache_kafka(
        kafka.libs(),
        directory,
        config=config,
        broker_listeners=BrokerListeners(listeners, {USER: PASSWORD}),
    ) as broker:
        yield broker, broker.address("users")


def _keystore(path: Path, issued: trustme.LeafCert) -> dict[str, str]:
    """What tells Kafka of a certificate and its key, which are written to one file."""
    key_file(path, issued.private_key_pem.bytes())
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    path.write_bytes(path.read_bytes() + chain)
    return {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(path)}


def _sasl(mechanism: str, login: str) -> dict[str, str]:
    return {
        "sasl.enabled.mechanisms": mechanism,
        f"{mechanism.lower()}.sasl.jaas.config": login,
    }
