"""The options of all benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from odin_ws.bench.server import Cores, Target

__all__ = ["Options"]


@attrs.frozen
class Options:
    """The options of a benchmark session.

    `kafka`: a broker's address, else one is started. `target`: a server that runs already, else
    one is started for each run, with `settings` before the run's own. `libs`: Apache Kafka's jars.
    `catalogue_file`: topics of another domain.
    """

    kafka: str | None
    target: Target | None
    settings: Mapping[str, str]
    load_processes: int
    cores: Cores
    libs: Path
    catalogue_file: Path | None = None
