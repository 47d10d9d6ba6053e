"""Rejected or missing credentials are reported with the reason."""

from __future__ import annotations

import pytest

from odin_ws.kafka.client import KafkaClient
from odin_ws.kafka.errors import AuthenticationFailed
from odin_ws.kafka.oauth import OAuthTokenSource
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.settings import Secret
from tests.kafka.clients import (
    SECONDS,
    metadata_fails,
)
from tests.kafka.loopback_broker import (
    LoopbackBroker,
    loopback_broker,
)


class FailingTokens(OAuthTokenSource):
    """A source that raises."""

    origin = "of a test"

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    async def token(self) -> str:
        """See AbstractTokenProvider."""
        raise self.failure


def token_access(broker: LoopbackBroker, tokens: OAuthTokenSource) -> KafkaSecurity:
    """By OAUTHBEARER."""
    return KafkaSecurity((broker.address,), "SASL_PLAINTEXT", "OAUTHBEARER", tokens=tokens)


def offer(broker: LoopbackBroker, mechanism: bytes, error: int = 0) -> None:
    """Have a broker offer a SASL mechanism and take nobody's credentials."""
    broker.versions = {**broker.versions, 17: (0, 1), 36: (0, 0)}
    size = len(mechanism).to_bytes(2, "big")
    handshake = error.to_bytes(2, "big") + b"\0\0\0\1" + size + mechanism
    words = b"not you"
    rejection = (
        (58).to_bytes(2, "big") + len(words).to_bytes(2, "big") + words + b"\xff\xff\xff\xff"
    )
    broker.garbles = {17: handshake, 36: rejection}


async def test_rejected_credentials_are_reported() -> None:
    """With the broker's text."""
    async with loopback_broker() as broker:
        offer(broker, b"PLAIN")
        security = KafkaSecurity((broker.address,), "SASL_PLAINTEXT", "PLAIN", "me", Secret("x"))
        await metadata_fails(security, "authentication failed: not you")


async def test_unsupported_mechanism_is_reported() -> None:
    """With the name of the setting."""
    async with loopback_broker() as broker:
        offer(broker, b"GSSAPI", 33)
        security = KafkaSecurity((broker.address,), "SASL_PLAINTEXT", "PLAIN", "me", Secret("x"))
        await metadata_fails(security, "KAFKA_SASL_MECHANISM=PLAIN")


async def test_missing_token_is_reported() -> None:
    """With the reason of the token source."""
    async with loopback_broker() as broker:
        offer(broker, b"OAUTHBEARER")
        security = token_access(broker, FailingTokens(AuthenticationFailed("no token")))
        await metadata_fails(security, f"{broker.address}: no token")


@pytest.mark.parametrize("bug", [KeyError("r"), OSError("bug"), ZeroDivisionError()])
async def test_bug_in_token_source_is_raised(bug: Exception) -> None:
    """The same error types from a connection are a broker failure."""
    async with loopback_broker() as broker:
        offer(broker, b"OAUTHBEARER")
        client = KafkaClient(token_access(broker, FailingTokens(bug)), SECONDS)
        async with client.running():
            with pytest.raises((KeyError, RuntimeError, ZeroDivisionError)):
                await client.metadata([])
