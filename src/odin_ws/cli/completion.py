"""`odin-ws completion`: prints a script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from odin_ws.cli.examples import examples

__all__ = ["completion"]

# The variable in which the script requests completions; click derives its name.
_VARIABLE = "_ODIN_WS_COMPLETE"


@click.command(
    short_help="Print a script for completion in a shell.",
    epilog=examples(
        (
            "bash with bash-completion",
            "odin-ws completion bash > ~/.local/share/bash-completion/completions/odin-ws",
        ),
        ("zsh, with ~/.zfunc in fpath", "odin-ws completion zsh > ~/.zfunc/_odin-ws"),
        ("fish", "odin-ws completion fish > ~/.config/fish/completions/odin-ws.fish"),
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script with which SHELL completes commands, options and file names."""
    script = get_completion_class(shell)
    assert script is not None  # the shells that click supports
    context = click.get_current_context().find_root()
    click.echo(script(context.command, {}, "odin-ws", _VARIABLE).source())
