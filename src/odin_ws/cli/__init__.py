"""The `odin-ws` command; each subcommand has a file of its own."""

from __future__ import annotations

import click

from odin_ws.cli.config import config
from odin_ws.cli.serve import serve
from odin_ws.cli.version import version

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Fan Kafka topics out to WebSocket subscribers."""


for command in (serve, config, version):
    main.add_command(command)
