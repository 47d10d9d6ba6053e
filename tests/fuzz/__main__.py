"""`make fuzz`: fuzzes every target for a long time, by code coverage if atheris runs here.

Each target has its share of the time, in a process of its own. An input that breaks a promise is
kept in tests/fuzz/corpus/, and `make test` repeats it; the traceback names the promise.
"""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from tests.fuzz.corpus import CORPUS, kept, seeds
from tests.fuzz.targets import TARGETS

__all__ = ["main"]

# Inputs that reached new code; the next run begins with them.
_FOLDER: Final = Path(".fuzz")

# A conversation of many frames has some kilobytes.
_LONGEST: Final = 4096


@click.command(help=__doc__)
@click.option("--seconds", default=600, show_default=True, help="how long, of all targets together")
@click.option(
    "--target", "targets", multiple=True, type=click.Choice([*TARGETS]), help="only these"
)
def main(seconds: int, targets: tuple[str, ...]) -> None:
    """Fuzz the targets in turn; the exit status is 1 if one has failed."""
    chosen = targets or tuple(TARGETS)
    each = max(1, seconds // len(chosen))
    program = "tests.fuzz.guided" if find_spec("atheris") else "tests.fuzz.unguided"
    broken = []
    for target in chosen:
        click.echo(f"{target}: {each} s of {program}")
        CORPUS.joinpath(target).mkdir(parents=True, exist_ok=True)
        folder = _FOLDER / target
        folder.mkdir(parents=True, exist_ok=True)
        for data in (*seeds(target), *(path.read_bytes() for path in kept(target))):
            folder.joinpath(sha256(data).hexdigest()[:16]).write_bytes(data)
        command = [sys.executable, "-m", program, target, str(each), str(folder), str(_LONGEST)]
        if subprocess.run(command, check=False).returncode:
            broken.append(target)
    if broken:
        click.echo(f"broken: {', '.join(broken)}; the inputs are in {CORPUS}")
        sys.exit(1)


if __name__ == "__main__":
    main()
