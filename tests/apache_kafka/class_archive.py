"""`python -m tests.apache_kafka.class_archive LIBS`: lets Apache Kafka start with less CPU.

Runs a broker once, and stores its parsed classes beside the jars: `odin_ws.testing.kafka_tools`
gives them to each Java that it starts.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

from odin_ws.testing.brokers import apache_kafka
from odin_ws.testing.kafka_tools import CLASS_ARCHIVE
from tests.integration.kafka import create_topics

__all__ = ["write_archive"]

# Java writes the file at its end: 3 s on a free machine; the rest is for a busy one.
WRITE_SECONDS: Final = 120


async def write_archive(libs: Path) -> None:
    """Write the archive of the classes that a broker loads until it has topics."""
    archive = libs / CLASS_ARCHIVE
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="odin-ws-classes-") as folder:
        written = Path(folder, CLASS_ARCHIVE)
        async with apache_kafka(libs, Path(folder)) as broker:
            # For the broker alone: before, Java also ran the tool that formats its folder.
            await broker.stop()
            os.environ["JDK_JAVA_OPTIONS"] = f"-XX:ArchiveClassesAtExit={written}"
            await broker.start()
            await create_topics(broker.bootstrap)
            os.kill(broker.pid, signal.SIGTERM)
            with trio.fail_after(WRITE_SECONDS):
                await broker.wait()
        shutil.copy(written, archive)


if __name__ == "__main__":
    trio.run(write_archive, Path(sys.argv[1]))
