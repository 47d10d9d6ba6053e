"""Settings and catalogue as a command finds them, or a clear word and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NoReturn

import click

from odin_ws.catalogue import Catalogue, CatalogueError, default_catalogue, load_catalogue
from odin_ws.settings import Settings, SettingsError, load_settings

__all__ = ["read_catalogue", "read_settings", "stop_with"]


def stop_with(*problems: str) -> NoReturn:
    """Print what is wrong and end with the status of a usage error."""
    for problem in problems:
        click.echo(f"odin-ws: {problem}", err=True)
    sys.exit(2)


def read_settings(
    warn: Callable[[str], None], options: Mapping[str, str] = MappingProxyType({})
) -> Settings:
    """The settings of the environment; `warn` gets one line about unknown names.

    `options`: settings that the command line gives, by their names; they come first.
    """
    try:
        settings, unknown = load_settings({**os.environ, **options})
    except SettingsError as error:
        stop_with(*error.problems)
    if unknown:
        warn(f"not settings of odin-ws, ignored: {', '.join(unknown)}")
    return settings


def read_catalogue(settings: Settings) -> Catalogue:
    """The catalogue the settings name."""
    if settings.ws_catalogue is None:
        return default_catalogue()
    try:
        return load_catalogue(settings.ws_catalogue.read_text("utf-8"))
    except (CatalogueError, OSError, UnicodeDecodeError) as error:
        stop_with(f"WS_CATALOGUE={settings.ws_catalogue}: {error}")
