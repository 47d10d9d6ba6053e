"""Apache Kafka's Java command line, and the storage tool that formats a broker's directory."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

__all__ = [
    "CLASS_ARCHIVE",
    "BrokerFailed",
    "BrokerUnavailable",
    "format_storage",
    "is_formatted",
    "java_command",
]

# Timeout of formatting the data directory, which takes 1 s, mostly the start of Java.
FORMAT_SECONDS = 60

# A cluster id of any 16 bytes: each cluster is a single node without peers.
CLUSTER_ID: Final = base64.urlsafe_b64encode(b"odin-ws-testing!").rstrip(b"=").decode()

# Java's heap: a broker with a hundred partitions uses 350-400 MB.
JAVA_HEAP = "-Xmx1g"

# Options for brokers that run for minutes: Java's second compiler would take half a core in the
# first minute, and the parallel collector needs more cores than a test has.
JAVA_SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Archive of parsed classes, which saves a third of the CPU of a start. Java ignores an archive of
# another Java version or folder. `make peers` writes the archive.
CLASS_ARCHIVE: Final = "classes.jsa"
JAVA_LOG_LEVEL = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class BrokerUnavailable(RuntimeError):
    """This machine lacks a program that the broker needs; the message says what to install."""


class BrokerFailed(RuntimeError):
    """The broker did not start; the message ends with the tail of its log."""


def java_command(libs: Path, heap: str = JAVA_HEAP) -> list[str]:
    """Return the command that runs a class of Apache Kafka.

    Raises:
        BrokerUnavailable: Java or the jars are missing.
    """
    java = shutil.which("java")
    if java is None:
        raise BrokerUnavailable("Apache Kafka needs Java 17: there is no `java` on the PATH")
    if not any(libs.glob("kafka_*.jar")):
        raise BrokerUnavailable(f"no Apache Kafka in {libs}: `make test` copies it there")
    libs = libs.resolve()
    archive = libs / CLASS_ARCHIVE
    shared = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
    return [java, heap, *JAVA_SHORT_LIVED, *shared, JAVA_LOG_LEVEL, "-cp", str(libs / "*")]


# The files that the storage tool writes, by command and node: they do not depend on ports or
# folders, and the tool takes half as much CPU as the start of a broker.
_formatted: Final[dict[tuple[str, ...], dict[str, bytes]]] = {}


async def format_storage(java: list[str], properties: Path, more: Sequence[str] = ()) -> None:
    """Format the data directory of a node; `java`: the command from `java_command`.

    The storage tool runs once for all nodes of this process with the same jars, users and node id.

    Raises:
        BrokerFailed: the storage tool failed; the message ends with its output.
    """
    settings = dict(line.split("=", 1) for line in _lines(properties))
    data = Path(settings["log.dirs"])
    key = (*java, *more, settings["node.id"], settings["process.roles"])
    files = _formatted.get(key)
    if files is None:
        await _run_storage_tool(java, properties, more)
        _formatted[key] = _read_files(data)
    else:
        _write_files(data, files)


def _lines(properties: Path) -> list[str]:
    return properties.read_text("utf-8").splitlines()


def _read_files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


async def _run_storage_tool(java: list[str], properties: Path, more: Sequence[str]) -> None:
    tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties), *more]
    with trio.fail_after(FORMAT_SECONDS):
        done = await trio.run_process(
            [*java, *tool], capture_stdout=True, capture_stderr=True, check=False
        )
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise BrokerFailed(f"the storage tool ended with status {done.returncode}:\n{output}")


def is_formatted(data: Path) -> bool:
    """Return whether the storage tool has formatted a data directory."""
    return (data / "meta.properties").exists()
