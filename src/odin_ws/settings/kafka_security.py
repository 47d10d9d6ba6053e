"""Settings of Kafka security: TLS and SASL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from odin_ws.settings.declaration import FILE, OPTIONAL_TEXT, PATH, URL, choice, secret, setting
from odin_ws.settings.secrets import Secret

__all__ = ["KafkaSecuritySettings"]

_OAUTH: Final = "OAUTHBEARER"

# OAUTHBEARER needs exactly one of these.
_TOKEN_FILE: Final = "KAFKA_SASL_TOKEN_FILE"  # noqa: S105 -- a name
_TOKEN_URL: Final = "KAFKA_SASL_TOKEN_URL"  # noqa: S105 -- a name
_CLIENT: Final = {"KAFKA_SASL_CLIENT_ID", "KAFKA_SASL_CLIENT_SECRET"}
_SCOPE: Final = "KAFKA_SASL_SCOPE"


@attrs.frozen(slots=False)  # several are bases of one class
class KafkaSecuritySettings:
    """See odin_ws.settings.Settings."""

    kafka_security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL",
        "PLAINTEXT",
        choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "",
        "SSL: TLS; SASL: authentication with a password or a token",
    )
    kafka_sasl_mechanism: str = setting(
        "KAFKA_SASL_MECHANISM",
        "PLAIN",
        choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", _OAUTH),
        "",
        "SASL mechanism; OAUTHBEARER uses a token instead of user and password",
    )
    kafka_sasl_username: str = setting(
        "KAFKA_SASL_USERNAME", "", OPTIONAL_TEXT, "", "user for PLAIN and SCRAM"
    )
    kafka_sasl_password: Secret | None = secret(
        "KAFKA_SASL_PASSWORD", "password of KAFKA_SASL_USERNAME"
    )
    kafka_sasl_token_file: Path | None = setting(
        "KAFKA_SASL_TOKEN_FILE",
        "",
        PATH,
        "",
        "file with the token for OAUTHBEARER; read for each connection",
    )
    kafka_sasl_token_url: str | None = setting(
        "KAFKA_SASL_TOKEN_URL",
        "",
        URL,
        "",
        "authorization server that issues that token (OAuth 2.0, client credentials)",
    )
    kafka_sasl_client_id: str = setting(
        "KAFKA_SASL_CLIENT_ID", "", OPTIONAL_TEXT, "", "client id at KAFKA_SASL_TOKEN_URL"
    )
    kafka_sasl_client_secret: Secret | None = secret(
        "KAFKA_SASL_CLIENT_SECRET", "secret of KAFKA_SASL_CLIENT_ID"
    )
    kafka_sasl_scope: str = setting(
        "KAFKA_SASL_SCOPE",
        "",
        OPTIONAL_TEXT,
        "",
        "scope in the token request; default: none",
    )
    kafka_ssl_cafile: Path | None = setting(
        "KAFKA_SSL_CAFILE",
        "",
        FILE,
        "",
        "trusted certificate authorities (PEM); default: the system's",
    )
    kafka_ssl_certfile: Path | None = setting(
        "KAFKA_SSL_CERTFILE", "", FILE, "", "client certificate (PEM), for brokers that require one"
    )
    kafka_ssl_keyfile: Path | None = setting(
        "KAFKA_SSL_KEYFILE",
        "",
        FILE,
        "",
        "private key (PEM) of the client certificate, not encrypted; may be in KAFKA_SSL_CERTFILE",
    )

    @property
    def security_warnings(self) -> list[str]:
        """Return warnings about passwords and tokens that are sent unencrypted."""
        protocol, mechanism = self.kafka_security_protocol, self.kafka_sasl_mechanism
        if protocol != "SASL_PLAINTEXT" or mechanism not in {"PLAIN", _OAUTH}:
            return []
        what = "token" if mechanism == _OAUTH else "password"
        return [
            f"KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT with KAFKA_SASL_MECHANISM={mechanism}: "
            f"the {what} is sent unencrypted"
        ]

    def security_problems(self) -> list[str]:
        """Return a line for each setting that contradicts another."""
        return [*self._sasl_problems(), *self._ssl_problems()]

    def _sasl_problems(self) -> Iterator[str]:
        protocol, mechanism = self.kafka_security_protocol, self.kafka_sasl_mechanism
        given = {
            "KAFKA_SASL_USERNAME": bool(self.kafka_sasl_username),
            "KAFKA_SASL_PASSWORD": self.kafka_sasl_password is not None,
            _TOKEN_FILE: self.kafka_sasl_token_file is not None,
            _TOKEN_URL: self.kafka_sasl_token_url is not None,
            "KAFKA_SASL_CLIENT_ID": bool(self.kafka_sasl_client_id),
            "KAFKA_SASL_CLIENT_SECRET": self.kafka_sasl_client_secret is not None,
            _SCOPE: bool(self.kafka_sasl_scope),
        }
        needed, allowed, why = set[str](), set[str](), f"KAFKA_SASL_MECHANISM={mechanism}"
        if not protocol.startswith("SASL_"):
            why = f"KAFKA_SECURITY_PROTOCOL={protocol}"
        elif mechanism != _OAUTH:
            needed = {"KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"}
        elif given[_TOKEN_FILE] and given[_TOKEN_URL]:
            yield f"{_TOKEN_FILE} and {_TOKEN_URL} are both set: set only one"
            allowed = {_TOKEN_FILE, _TOKEN_URL, *_CLIENT, _SCOPE}
        elif given[_TOKEN_URL]:
            needed, allowed, why = {_TOKEN_URL, *_CLIENT}, {_SCOPE}, _TOKEN_URL
        elif given[_TOKEN_FILE]:
            needed, why = {_TOKEN_FILE}, _TOKEN_FILE
        else:
            yield f"{_TOKEN_FILE} or {_TOKEN_URL}: must be set with {why}"
            allowed = {*_CLIENT, _SCOPE}
        for name, is_given in given.items():
            if is_given and name not in needed | allowed:
                yield f"{name}: must not be set with {why}"
            elif not is_given and name in needed:
                yield f"{name}: must be set with {why}"

    def _ssl_problems(self) -> Iterator[str]:
        certificate, key = self.kafka_ssl_certfile, self.kafka_ssl_keyfile
        given = {
            "KAFKA_SSL_CAFILE": self.kafka_ssl_cafile,
            "KAFKA_SSL_CERTFILE": certificate,
            "KAFKA_SSL_KEYFILE": key,
        }
        protocol = self.kafka_security_protocol
        if not protocol.endswith("SSL"):
            for name, path in given.items():
                if path is not None:
                    yield f"{name}: must not be set with KAFKA_SECURITY_PROTOCOL={protocol}"
        elif (certificate is None) != (key is None):
            missing = "KAFKA_SSL_KEYFILE" if key is None else "KAFKA_SSL_CERTFILE"
            other = "KAFKA_SSL_CERTFILE" if key is None else "KAFKA_SSL_KEYFILE"
            yield f"{missing}: must be set with {other}"
