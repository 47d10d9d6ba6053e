"""The options of all benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from odin_ws.bench.server import Cores, Target

__all__ = ["Options"]


@attrs.frozen
class Options:
    """The options of a benchmark session."""

    kafka: str | None
    """A broker's address; None: the benchmark starts a broker."""
    target: Target | None
    """A running server; None: the benchmark starts a server for each run."""
    settings: Mapping[str, str]
    """Settings of started servers, which override the settings of a run."""
    load_processes: int
    """The number of processes with connections."""
    cores: Cores
    libs: Path
    """The directory of Apache Kafka's jars."""
    catalogue_file: Path | None = None
    """The catalogue of another domain; None for Odin's."""
