"""One target under atheris: `python -m tests.fuzz.guided TARGET SECONDS FOLDER LONGEST`."""

from __future__ import annotations

import logging
import sys

import atheris
import structlog

# atheris instruments these packages at their import; coverage of the tests is of no use.
with atheris.instrument_imports(include=["odin_ws", "wsproto", "h11"]):
    from tests.fuzz.corpus import CORPUS
    from tests.fuzz.targets import TARGETS

__all__ = ["main"]


def main() -> None:
    """Fuzz until the time is over, or a promise is broken."""
    target, seconds, folder, longest = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={longest}",
        f"-artifact_prefix={CORPUS / target}/",
        # Seconds per input; a conversation takes 50 ms.
        "-timeout=20",
        "-print_final_stats=1",
        "-verbosity=0",
        folder,
    ]
    atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
