"""Options that override a setting of the environment for one command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["catalogue_option", "overrides"]

_F = TypeVar("_F", bound=Callable[..., Any])


def catalogue_option(command: _F) -> _F:
    """Add `--catalogue FILE`."""
    return click.option(
        "--catalogue",
        "catalogue_file",
        metavar="FILE",
        type=click.Path(),
        help="Topics, categories and bundles of another domain; overrides WS_CATALOGUE.",
    )(command)


def overrides(**options: object) -> dict[str, str]:
    """Return the given options by the name of their setting; None is an option not given."""
    return {name: str(value) for name, value in options.items() if value is not None}
