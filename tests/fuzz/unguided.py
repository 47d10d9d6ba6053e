"""One target under Hypothesis, where atheris does not run; the arguments are those of `guided`."""

from __future__ import annotations

import logging
import sys
import time
from hashlib import sha256

import structlog
from hypothesis import HealthCheck, given, settings

from tests.fuzz.corpus import CORPUS
from tests.fuzz.mutations import inputs
from tests.fuzz.targets import TARGETS

__all__ = ["main"]


def main() -> None:
    """Fuzz until the time is over, or a promise is broken."""
    target, seconds, _folder, _longest = sys.argv[1:]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    until = time.monotonic() + float(seconds)

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    @given(inputs(target))
    def look(data: bytes) -> None:
        try:
            TARGETS[target](data)
        except BaseException:
            # Hypothesis writes the smallest failing input last.
            CORPUS.joinpath(target, f"crash-{sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    while time.monotonic() < until:
        look()


if __name__ == "__main__":
    main()
