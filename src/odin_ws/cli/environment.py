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

__all__ = [
    "check_jwt_verifier",
    "read_catalogue",
    "read_event_catalogue",
    "read_kafka_security",
    "read_settings",
    "stop_with",
]

# Nobody limits how often it is guessed; so many random characters are not guessed.
_LEAST_OPS_TOKEN: Final = 16


def stop_with(*problems: str) -> NoReturn:
    """Print what is wrong and end with the status of a usage error."""
    for problem in problems:
        click.echo(f"odin-ws: {problem}", err=True)
    sys.exit(2)


def read_settings(
    warn: Callable[[str], None], options: Mapping[str, str] = MappingProxyType({})
) -> Settings:
    """The settings of the environment; `warn` gets a line about unknown names, and about risks.

    `options`: settings that the command line gives, by their names; they come first.
    """
    try:
        settings, unknown = load_settings({**os.environ, **options})
    except SettingsError as error:
        stop_with(*error.problems)
    if unknown:
        warn(f"not settings of odin-ws, ignored: {', '.join(unknown)}")
    for warning in settings.security_warnings:
        warn(warning)
    return settings


def read_kafka_security(settings: Settings) -> KafkaSecurity:
    """How Kafka is reached, with the certificates that the settings name."""
    try:
        return KafkaSecurity.of(settings)
    except SettingsError as error:
        stop_with(*error.problems)


def read_catalogue(settings: Settings) -> Catalogue:
    """The catalogue the settings name, in which there is no topic for dead letters."""
    catalogue = _read_catalogue(settings)
    dead = settings.kafka_dead_letter_topic
    if dead in catalogue.topics:
        # Each letter would be read as a record, and be one again.
        stop_with(f"KAFKA_DEAD_LETTER_TOPIC={dead}: must not be a topic of the catalogue")
    return catalogue


def read_event_catalogue(settings: Settings) -> Catalogue:
    """The same, for events to be made up: at least one of its topics has event types."""
    catalogue = read_catalogue(settings)
    if not catalogue.event_types:
        stop_with(f"WS_CATALOGUE={settings.ws_catalogue}: no topic has events to make up")
    return catalogue


def _read_catalogue(settings: Settings) -> Catalogue:
    if settings.ws_catalogue is None:
        return default_catalogue()
    try:
        return load_catalogue(settings.ws_catalogue.read_text("utf-8"))
    except (CatalogueError, OSError, UnicodeDecodeError) as error:
        stop_with(f"WS_CATALOGUE={settings.ws_catalogue}: {error}")


def check_jwt_verifier(settings: Settings, catalogue: Catalogue) -> None:
    """See that what access is decided by can be used: keys, policy, categories, tokens."""
    token = settings.ws_ops_token
    if token is not None and len(token.reveal()) < _LEAST_OPS_TOKEN:
        stop_with(f"WS_OPS_TOKEN: {_LEAST_OPS_TOKEN} characters or more are needed")
    if settings.ws_auth == "none":
        return
    # It loads PyJWT and cryptography.
    from odin_ws.auth.jwt_verifier import open_jwt_verifier  # noqa: PLC0415

    try:
        open_jwt_verifier(settings, catalogue)
    except SettingsError as error:
        stop_with(*error.problems)
