"""Reads settings and catalogue for a command; exits with status 2 if they are invalid."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NoReturn

import click

from odin_ws.catalogue import Catalogue, CatalogueError, default_catalogue, load_catalogue
from odin_ws.kafka.security import KafkaSecurity
from odin_ws.settings import Settings, SettingsError, load_settings
from odin_ws.settings.text_file import UnreadableFile, read_text_file

__all__ = [
    "MIN_OPS_TOKEN_LENGTH",
    "catalogue_of",
    "check_jwt_verifier",
    "exit_with_usage_error",
    "read_catalogue",
    "read_event_catalogue",
    "read_kafka_security",
    "read_settings",
]

# Minimum length of the ops token. Requests with a wrong token have no rate limit; 16 random
# characters cannot be guessed.
MIN_OPS_TOKEN_LENGTH: Final = 16


def exit_with_usage_error(*problems: str) -> NoReturn:
    """Print the problems and exit with status 2."""
    for problem in problems:
        click.echo(f"odin-ws: {problem}", err=True)
    sys.exit(2)


def read_settings(
    warn: Callable[[str], None], options: Mapping[str, str] = MappingProxyType({})
) -> Settings:
    """Read the settings; calls `warn` with a line about unknown names and security risks.

    `options`: settings by name from the command line; they override the environment.
    """
    try:
        settings, unknown = load_settings({**os.environ, **options})
    except SettingsError as error:
        exit_with_usage_error(*error.problems)
    if unknown:
        warn(f"unknown settings ignored: {', '.join(unknown)}")
    for warning in settings.security_warnings:
        warn(warning)
    return settings


def read_kafka_security(settings: Settings) -> KafkaSecurity:
    """Return the Kafka connection settings with the certificates that they name."""
    try:
        return KafkaSecurity.from_settings(settings)
    except SettingsError as error:
        exit_with_usage_error(*error.problems)


def read_catalogue(settings: Settings) -> Catalogue:
    """Return the catalogue of WS_CATALOGUE; checks that KAFKA_DEAD_LETTER_TOPIC is not in it."""
    catalogue = _read_catalogue(settings)
    dead = settings.kafka_dead_letter_topic
    if dead in catalogue.topics:
        # The server would read each dead letter as a record and reject that record again.
        exit_with_usage_error(
            f"KAFKA_DEAD_LETTER_TOPIC={dead}: must not be a topic of the catalogue"
        )
    return catalogue


def read_event_catalogue(settings: Settings) -> Catalogue:
    """Return a catalogue for generated events: at least one topic must have event types."""
    catalogue = read_catalogue(settings)
    if not catalogue.event_types:
        exit_with_usage_error(
            f"WS_CATALOGUE={settings.ws_catalogue}: no topic has event types to generate"
        )
    return catalogue


def catalogue_of(settings: Settings) -> Catalogue:
    """Return the catalogue of WS_CATALOGUE. Raises CatalogueError, UnreadableFile."""
    if settings.ws_catalogue is None:
        return default_catalogue()
    return load_catalogue(read_text_file(settings.ws_catalogue))


def _read_catalogue(settings: Settings) -> Catalogue:
    try:
        return catalogue_of(settings)
    except (CatalogueError, UnreadableFile) as error:
        exit_with_usage_error(f"WS_CATALOGUE={settings.ws_catalogue}: {error}")


def check_jwt_verifier(settings: Settings, catalogue: Catalogue) -> None:
    """Check keys, policy and the ops token, so that mistakes stop the start."""
    token = settings.ws_ops_token
    if token is not None and len(token.reveal()) < MIN_OPS_TOKEN_LENGTH:
        exit_with_usage_error(f"WS_OPS_TOKEN: must have at least {MIN_OPS_TOKEN_LENGTH} characters")
    if settings.ws_auth == "none":
        return
    # Imports PyJWT and cryptography.
    from odin_ws.auth.jwt_verifier import open_jwt_verifier  # noqa: PLC0415

    try:
        open_jwt_verifier(settings, catalogue)
    except SettingsError as error:
        exit_with_usage_error(*error.problems)
