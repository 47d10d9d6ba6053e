"""Kafka security: TLS, SASL, credentials, and why a broker rejected them.

aiokafka logs why a broker rejected a connection and raises an error without the reason.
`KafkaSecurity.rejection_reason` connects once more to find it out.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

import attrs
import trio
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import (
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from odin_ws.http_client import Unreachable, WebAddress
from odin_ws.kafka.aiokafka_internals import (
    CONNECT_ERRORS,
    MALFORMED_RESPONSE_ERRORS,
    AuthenticatedConnection,
    cause_of,
    connect,
)
from odin_ws.kafka.asyncio_bridge import call_aiokafka
from odin_ws.kafka.errors import AuthenticationFailed, UnexpectedResponse
from odin_ws.kafka.oauth import OAuthTokenEndpoint, OAuthTokenFile, OAuthTokenSource
from odin_ws.kafka.protocol import MalformedResponse, MetadataRequest, UnsupportedVersion
from odin_ws.settings import Secret, Settings, SettingsError

__all__ = ["KafkaSecurity"]

# The client id in the broker's logs and quotas.
_CLIENT_ID: Final = "odin-ws"

# Length limit for texts from a broker.
_MAX_SHOWN: Final = 100

# Size limit of a token response. Tokens have one or two kilobytes; some list every group.
_TOKEN_SECONDS: Final = 5.0
_TOKEN_BYTES: Final = 64 << 10


@attrs.frozen
class TlsFiles:
    """Trusted authorities (the system's if `ca` is None), client certificate and key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Create a context that verifies the broker's certificate and name. Raises OSError."""
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key, _no_password)
        return context

    def stamps(self) -> list[int]:
        """Return the modification times of the files, in nanoseconds. Raises OSError."""
        files = filter(None, (self.ca, self.certificate, self.key))
        return [path.stat().st_mtime_ns for path in files]


def _no_password() -> str:
    # Without this OpenSSL would prompt for a password on the terminal.
    return ""


@attrs.frozen
class KafkaSecurity:
    """Addresses and credentials of Kafka. Each field is documented at its setting KAFKA_…."""

    brokers: tuple[str, ...]
    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str = ""
    password: Secret | None = None
    tokens: OAuthTokenSource | None = None
    tls: TlsFiles = attrs.field(factory=TlsFiles)
    # The last context and the stamps of its files: creating one takes 20 ms.
    _context: dict[str, Any] = attrs.field(init=False, factory=dict, eq=False, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> KafkaSecurity:
        """Return addresses and credentials of the settings. Raises SettingsError for bad files."""
        tls = TlsFiles(
            settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile
        )
        _check(tls)
        return cls(
            settings.kafka_brokers,
            settings.kafka_security_protocol,
            settings.kafka_sasl_mechanism,
            settings.kafka_sasl_username,
            settings.kafka_sasl_password,
            _tokens(settings),
            tls,
        )

    def client(self) -> dict[str, Any]:
        """Return the arguments of every aiokafka client. Raises OSError."""
        return {"bootstrap_servers": list(self.brokers)} | self.connection()

    def connection(self) -> dict[str, Any]:
        """Return the arguments of every aiokafka connection. Raises OSError."""
        arguments: dict[str, Any] = {
            "client_id": _CLIENT_ID,
            "security_protocol": self.protocol,
        }
        if self.protocol.endswith("SSL"):
            arguments["ssl_context"] = self._current_context()
        if self.protocol.startswith("SASL_"):
            arguments["sasl_mechanism"] = self.mechanism
            if self.tokens is not None:
                arguments["sasl_oauth_token_provider"] = self.tokens
            if self.password is not None:
                arguments["sasl_plain_username"] = self.username
                arguments["sasl_plain_password"] = self.password.reveal()
        return arguments

    def _current_context(self) -> ssl.SSLContext:
        """Return the context, with renewed certificates if the files have changed."""
        stamps = self.tls.stamps()
        if self._context.get("stamps") != stamps:
            self._context.update(context=self.tls.context(), stamps=stamps)
        context: ssl.SSLContext = self._context["context"]
        return context

    async def connect(
        self, host: str, port: int, seconds: float, idle_seconds: float | None = None
    ) -> AuthenticatedConnection:
        """Connect to a broker and authenticate; runs in asyncio.

        `seconds`: timeout for connecting and for each request of the connection. `idle_seconds`:
        after this time without a request the connection closes itself.

        Raises AuthenticationFailed without a token, UnexpectedResponse for a malformed response, or
        one of CONNECT_ERRORS. Any other error of the token source is a bug and is raised as such.
        """
        arguments = self.connection()
        recorded = _RecordedTokens(self.tokens) if self.tokens is not None else None
        if recorded is not None:
            arguments["sasl_oauth_token_provider"] = recorded
        try:
            return await connect(host, port, seconds, arguments, idle_seconds)
        except CONNECT_ERRORS as error:
            # Certificate errors among these are also a ValueError, which is handled below.
            if recorded is not None and recorded.failure is error:
                if isinstance(error, AuthenticationFailed):
                    raise
                raise RuntimeError("the token source has failed") from error
            raise
        except MALFORMED_RESPONSE_ERRORS as error:
            if recorded is not None and recorded.failure is error:
                raise
            raise UnexpectedResponse(_unexpected_response(error)) from error

    async def rejection_reason(self, seconds: float) -> AuthenticationFailed | None:
        """Return why the first responding broker rejects a connection; None if none does."""
        for broker in self.brokers:
            # A broker that hangs must not use up the time of the others.
            with trio.move_on_after(seconds / len(self.brokers)):
                try:
                    await self._probe(broker, seconds)
                except AuthenticationFailed as rejected:
                    return rejected
                except CONNECT_ERRORS as error:
                    why = self.why_rejected(error)
                    if why:
                        return AuthenticationFailed(f"{broker}: {why}")
        return None

    async def _probe(self, broker: str, seconds: float) -> None:
        """Connect to a broker and request metadata."""
        host, _, port = broker.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        connection = await call_aiokafka(self.connect, host, int(port), seconds)
        request = MetadataRequest([])
        try:
            encoded = request.encode(connection.versions)
            cluster = request.decode(encoded.api_version, await connection.send(encoded))
        except (UnsupportedVersion, MalformedResponse) as error:
            raise UnexpectedResponse(str(error)) from error
        finally:
            # The TLS close comes first; a broker that does not respond to it is not waited for.
            with trio.CancelScope(shield=True):
                await call_aiokafka(connection.close)
        # aiokafka ignores a rejected token; a rejected client gets no brokers.
        if self.tokens is not None and not cluster.brokers:
            self.tokens.forget()
            raise AuthenticationFailed(f"{broker}: rejects the token {self.tokens.origin}")

    def why_rejected(self, error: BaseException) -> str | None:
        """Return the text for an error about TLS or credentials; None for other errors."""
        if isinstance(error, UnexpectedResponse):
            return error.what
        error = cause_of(error)
        why = None
        match error:
            case ssl.SSLCertVerificationError():
                why = f"its certificate is not trusted: {error.verify_message}"
            case ssl.SSLError() if _is_own_certificate_error(error):
                why = self._why_certificate(error)
            case ssl.SSLError(reason="WRONG_VERSION_NUMBER"):
                why = "does not speak TLS (wrong version number)"
            case ssl.SSLError():
                why = f"TLS failed: {error.reason or error}"
            case SaslAuthenticationFailed():
                why = f"authentication failed: {' '.join(map(str, error.args))}"
            case UnsupportedSaslMechanismError() | IllegalSaslStateError():
                why = f"does not offer SASL with KAFKA_SASL_MECHANISM={self.mechanism}"
            case EOFError() | ConnectionResetError() | BrokenPipeError():
                why = (
                    "closed the connection: it may need another KAFKA_SECURITY_PROTOCOL than "
                    f"{self.protocol}"
                )
            case _ if isinstance(error, MALFORMED_RESPONSE_ERRORS):
                # The OSErrors among these are handled above.
                why = _unexpected_response(error)
        return why

    def _why_certificate(self, error: ssl.SSLError) -> str:
        """Return the text for a broker that rejects the client certificate, or misses one."""
        if self.tls.certificate is None:
            return f"requires a client certificate (KAFKA_SSL_CERTFILE): {error.reason}"
        return f"rejects the client certificate {self.tls.certificate}: {error.reason}"


def _unexpected_response(error: BaseException) -> str:
    return f"malformed response: {f'{type(error).__name__}: {error}'[:_MAX_SHOWN]}"


class _RecordedTokens(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """Distinguishes an error of the token source from an error of the broker."""

    def __init__(self, tokens: OAuthTokenSource) -> None:
        self._tokens = tokens
        self.failure: BaseException | None = None

    async def token(self) -> str:
        """See AbstractTokenProvider; in asyncio."""
        try:
            token: str = await self._tokens.token()
        except BaseException as error:
            self.failure = error
            raise
        return token


def _is_own_certificate_error(error: ssl.SSLError) -> bool:
    """Return whether the broker rejected our certificate by a TLS alert.

    With TLS 1.3 the alert comes after the handshake.
    """
    reason = error.reason or ""
    return "_ALERT_" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def _tokens(settings: Settings) -> OAuthTokenSource | None:
    path, url = settings.kafka_sasl_token_file, settings.kafka_sasl_token_url
    if path is not None:
        return OAuthTokenFile(path)
    secret = settings.kafka_sasl_client_secret
    if url is None or secret is None:
        return None
    # A caller that waits for a connection gets the reason for a missing token, not a time-out.
    seconds = min(_TOKEN_SECONDS, settings.kafka_probe_seconds / 2)
    try:
        address = WebAddress(url, seconds=seconds, maximum=_TOKEN_BYTES)
    except Unreachable as error:
        raise SettingsError([f"KAFKA_SASL_TOKEN_URL={url}: {error}"]) from error
    return OAuthTokenEndpoint(
        address, settings.kafka_sasl_client_id, secret, settings.kafka_sasl_scope
    )


def _check(tls: TlsFiles) -> None:
    """Raise SettingsError if a file does not contain what it should."""
    problems = []
    if tls.ca is not None:
        try:
            TlsFiles(tls.ca).context()
        except OSError as error:
            problems.append(
                f"KAFKA_SSL_CAFILE={tls.ca}: no certificates (PEM): {_error_text(error)}"
            )
    if tls.certificate is not None:
        try:
            TlsFiles(None, tls.certificate, tls.key).context()
        except OSError as error:
            problems.append(
                f"KAFKA_SSL_CERTFILE={tls.certificate}, KAFKA_SSL_KEYFILE={tls.key}: "
                f"no certificate (PEM) with its key, not encrypted: {_error_text(error)}"
            )
    if problems:
        raise SettingsError(problems)


def _error_text(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error)
