"""Errors of a connection are explained by the setting that mends them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.errors import SaslAuthenticationFailed as Failed
from aiokafka.errors import UnsupportedSaslMechanismError as NotOffered

from odin_ws.kafka.errors import UnexpectedResponse
from odin_ws.kafka.security import KafkaSecurity, TlsFiles

PLAIN = KafkaSecurity(("kafka:9092",), "SASL_SSL", "PLAIN", "odin")


def tls_error(reason: str) -> ssl.SSLError:
    """An error of OpenSSL with this reason."""
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def untrusted() -> ssl.SSLError:
    """The error for a certificate of an unknown authority."""
    error = ssl.SSLCertVerificationError(1, "failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (untrusted(), "its certificate is not trusted: self-signed certificate"),
        (tls_error("WRONG_VERSION_NUMBER"), "does not speak TLS (wrong version number)"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "TLS failed: UNSUPPORTED_PROTOCOL"),
        (
            tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"),
            "requires a client certificate (KAFKA_SSL_CERTFILE): TLSV13_ALERT_CERTIFICATE_REQUIRED",
        ),
        (Failed("wrong password"), "authentication failed: wrong password"),
        (NotOffered(), "does not offer SASL with KAFKA_SASL_MECHANISM=PLAIN"),
        (
            ConnectionResetError(),
            "closed the connection: it may need another KAFKA_SECURITY_PROTOCOL than SASL_SSL",
        ),
        (UnexpectedResponse("no broker of Kafka"), "no broker of Kafka"),
        (TimeoutError(), None),
    ],
)
def test_reason_of_a_rejection(error: BaseException, why: str | None) -> None:
    """Errors that are neither about TLS nor about credentials have none."""
    assert PLAIN.why_rejected(error) == why


def test_reason_names_the_rejected_client_certificate() -> None:
    """With TLS 1.3 the alert comes after the handshake."""
    files = TlsFiles(None, Path("client.pem"), Path("client.key"))
    security = KafkaSecurity(("kafka:9092",), "SSL", tls=files)
    why = security.why_rejected(tls_error("TLSV1_ALERT_UNKNOWN_CA"))
    assert why == "rejects the client certificate client.pem: TLSV1_ALERT_UNKNOWN_CA"


def test_reason_is_that_of_the_cause() -> None:
    """The library raises its own error from that of the connection."""
    error = KafkaConnectionError("no connection")
    error.__cause__ = tls_error("WRONG_VERSION_NUMBER")
    assert PLAIN.why_rejected(error) == "does not speak TLS (wrong version number)"
