"""Checks the settings and the files that they name."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Final

import attrs

from odin_ws.assembly import read_certificate
from odin_ws.catalogue import Catalogue, CatalogueError
from odin_ws.cli.checks.findings import Findings
from odin_ws.cli.environment import MIN_OPS_TOKEN_LENGTH, catalogue_of
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.listener.certificate import CertificateError
from odin_ws.settings import Settings, SettingsError, declared_settings, load_settings
from odin_ws.settings.text_file import UnreadableFile

__all__ = ["Configuration", "check_configuration"]

_DAY: Final = 86_400.0

_CORRECT: Final = "correct the setting; `odin-ws config` prints all of them"


@attrs.frozen
class Configuration:
    """The valid parts of the settings; None for an invalid part."""

    settings: Settings
    catalogue: Catalogue | None
    security: KafkaSecurity | None


def check_configuration(
    findings: Findings, environ: Mapping[str, str] = os.environ
) -> Configuration | None:
    """Check settings and files as `odin-ws serve` reads them; None if the settings are invalid."""
    try:
        settings, unknown = load_settings(environ)
    except SettingsError as error:
        _fail_all(findings, "settings", error)
        return None
    names = [
        setting.name for _, setting in declared_settings() if setting.origin(environ) != "default"
    ]
    findings.ok("settings", f"{len(names)} set: {', '.join(names)}" if names else "all defaults")
    if unknown:
        findings.warn(
            "settings",
            f"unknown names are ignored: {', '.join(unknown)}",
            "remove them, or correct them: docs/settings.md lists all names",
        )
    for warning in settings.security_warnings:
        findings.warn("settings", warning, "use TLS: KAFKA_SECURITY_PROTOCOL=SASL_SSL")
    if settings.ws_max_connections < settings.ws_workers:
        findings.fail(
            "settings",
            f"WS_MAX_CONNECTIONS={settings.ws_max_connections} is less than "
            f"WS_WORKERS={settings.ws_workers}: each worker needs one connection",
            "raise WS_MAX_CONNECTIONS or lower WS_WORKERS",
        )
    catalogue = _catalogue(findings, settings)
    if catalogue is not None:
        _auth(findings, settings, catalogue)
    _certificate(findings, settings)
    return Configuration(settings, catalogue, _security(findings, settings))


def _fail_all(findings: Findings, check: str, error: SettingsError) -> None:
    for problem in error.problems:
        findings.fail(check, problem, _CORRECT)


def _catalogue(findings: Findings, settings: Settings) -> Catalogue | None:
    try:
        catalogue = catalogue_of(settings)
    except (CatalogueError, UnreadableFile) as error:
        findings.fail(
            "catalogue",
            f"WS_CATALOGUE={settings.ws_catalogue}: {error}",
            "correct the file: docs/settings.md, Another catalogue",
        )
        return None
    dead = settings.kafka_dead_letter_topic
    if dead in catalogue.topics:
        findings.fail(
            "catalogue",
            f"KAFKA_DEAD_LETTER_TOPIC={dead} is a topic of the catalogue: each dead letter would "
            "be read as a record",
            "name a topic of its own",
        )
    findings.ok("catalogue", f"{len(catalogue.topics)} topics: {', '.join(catalogue.topics)}")
    return catalogue


def _security(findings: Findings, settings: Settings) -> KafkaSecurity | None:
    try:
        return KafkaSecurity.from_settings(settings)
    except SettingsError as error:
        _fail_all(findings, "Kafka security", error)
        return None


def _auth(findings: Findings, settings: Settings, catalogue: Catalogue) -> None:
    token = settings.ws_ops_token
    if token is not None and len(token.reveal()) < MIN_OPS_TOKEN_LENGTH:
        findings.fail(
            "ops port",
            f"WS_OPS_TOKEN has fewer than {MIN_OPS_TOKEN_LENGTH} characters",
            "use a longer token, such as that of `openssl rand -hex 32`",
        )
    if settings.ws_auth == "none":
        findings.warn(
            "authentication",
            "WS_AUTH=none: every client that reaches the port may read everything",
            "set WS_AUTH=jwt (docs/auth.md), unless only trusted clients reach the port",
        )
        return
    # Imports PyJWT and cryptography.
    from odin_ws.auth.jwt_verifier import open_jwt_verifier  # noqa: PLC0415

    try:
        verifier = open_jwt_verifier(settings, catalogue)
    except SettingsError as error:
        _fail_all(findings, "authentication", error)
        return
    keys = f"{verifier.key_count} keys" if verifier.keys is not None else f"{settings.ws_jwks}"
    findings.ok("authentication", f"WS_AUTH=jwt, keys: {keys}")


def _certificate(findings: Findings, settings: Settings) -> None:
    check = "certificate"
    try:
        certificate = read_certificate(settings)
    except CertificateError as error:
        findings.fail(
            check,
            str(error),
            "WS_TLS_CERT needs the chain in PEM, own certificate first, and WS_TLS_KEY the private "
            "key of that certificate, without a password",
        )
        return
    if certificate is None:
        findings.ok(check, "none: without WS_TLS_CERT a proxy has to speak TLS with the clients")
        return
    if certificate.expires is None:
        findings.warn(check, "its expiry cannot be read", "write the file again, in PEM")
        return
    days = (certificate.expires - time.time()) / _DAY
    if certificate.problem is not None:
        findings.fail(check, certificate.problem, "renew it, then send SIGHUP to the server")
    elif certificate.warning is not None:
        findings.warn(check, certificate.warning, "renew it, then send SIGHUP to the server")
    else:
        findings.ok(check, f"valid for {days:.0f} days, and the key belongs to it")
