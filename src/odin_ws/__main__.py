"""The `odin-ws` command. Installs signal handlers before it imports anything slow."""

from __future__ import annotations

import gc
import sys
from typing import Final

from odin_ws.early_exit import early_exit

__all__ = ["main"]

# Commands that run until a signal: exit status 0 after one, 1 for the other commands.
_ENDLESS: Final = {"serve", "tail", "publish", "demo"}


def main() -> None:
    """Run the command line."""
    early_exit.install(0 if _ENDLESS.intersection(sys.argv[1:2]) else 1)
    # Imported modules are never freed: garbage collection would take a sixth of the start-up time.
    gc.disable()
    from odin_ws.cli import main as command  # noqa: PLC0415 -- click alone takes longer
    from odin_ws.cli.crash_report import print_crash  # noqa: PLC0415
    from odin_ws.cli.failures import OutputClosed  # noqa: PLC0415
    from odin_ws.cli.standard_streams import protect_streams  # noqa: PLC0415

    protect_streams()
    sys.excepthook = print_crash
    try:
        command(prog_name="odin-ws")
    except OutputClosed:
        sys.exit(0)
    finally:
        early_exit.ignore()


if __name__ == "__main__":
    main()
