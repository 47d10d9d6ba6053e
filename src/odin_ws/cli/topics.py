"""`odin-ws topics`: lists and creates the catalogue's topics in Kafka."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

import click
import orjson

from odin_ws.catalogue import Catalogue
from odin_ws.cli.command_runner import run, write_line, write_stderr
from odin_ws.cli.environment import read_catalogue, read_kafka_security, read_settings
from odin_ws.cli.examples import examples
from odin_ws.cli.kafka_clients import ExistingTopic, open_admin, silence_aiokafka
from odin_ws.cli.setting_options import catalogue_option, overrides
from odin_ws.cli.tables import print_table
from odin_ws.kafka.security import KafkaSecurity

__all__ = ["create_topics", "topics"]

# Retention: the longest disconnection after which a client resumes. Prices are stale after seconds,
# names are not. compose/compose.yaml has the same numbers.
_RETENTION_MS: Final = {
    "odin.trades": 30_000,
    "odin.balances": 30_000,
    "odin.liquidity": 60_000,
    "odin.community": 300_000,
    "odin.analytics": 300_000,
}
_OTHER_RETENTION_MS: Final = 3_600_000


_json_option = click.option("--json", "as_json", is_flag=True, help="Print the topics as JSON.")


@click.group(
    epilog=examples(
        ("What exists", "odin-ws topics list"),
        ("For a program", "odin-ws topics list --json"),
        (
            "Create the rest, for three brokers",
            "KAFKA_BROKERS=kafka:9092 odin-ws topics create --partitions 24 --replication 3",
        ),
    )
)
def topics() -> None:
    """List or create the catalogue's topics on KAFKA_BROKERS."""


@topics.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    default=12,
    show_default=True,
    help="Partitions of each topic.",
)
@click.option(
    "--replication",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Brokers that keep a copy of each partition.",
)
@catalogue_option
@_json_option
def create(
    partitions: int,
    replication: int,
    catalogue_file: str | None,
    as_json: bool,  # noqa: FBT001 -- a flag
) -> None:
    """Create the topics of the catalogue that do not exist.

    Does not change existing topics.
    """
    silence_aiokafka()
    settings = read_settings(write_stderr, overrides(WS_CATALOGUE=catalogue_file))
    security = read_kafka_security(settings)
    catalogue = read_catalogue(settings)
    command = partial(_create, security, catalogue, partitions, replication, as_json=as_json)
    sys.exit(run(command))


@topics.command("list")
@catalogue_option
@_json_option
def list_topics(catalogue_file: str | None, as_json: bool) -> None:  # noqa: FBT001 -- a flag
    """List the catalogue's topics, their partitions, and whether they exist."""
    silence_aiokafka()
    settings = read_settings(write_stderr, overrides(WS_CATALOGUE=catalogue_file))
    security, catalogue = read_kafka_security(settings), read_catalogue(settings)
    sys.exit(run(partial(_list, security, catalogue, as_json=as_json)))


async def create_topics(
    security: KafkaSecurity, catalogue: Catalogue, partitions: int, replication: int
) -> Mapping[str, ExistingTopic]:
    """Create the topics of the catalogue that do not exist.

    Returns the topics that existed before. Raises CommandFailed.
    """
    async with open_admin(security) as admin:
        existing = await admin.existing(catalogue.topics.keys())
        missing = {name: _config(name) for name in catalogue.topics if name not in existing}
        if missing:
            # Another process may have created a topic in between.
            others = await admin.create(missing, partitions=partitions, replication=replication)
            existing |= await admin.existing(others) if others else {}
    return existing


def _config(topic: str) -> dict[str, str]:
    history = _RETENTION_MS.get(topic, _OTHER_RETENTION_MS)
    return {"compression.type": "snappy", "retention.ms": str(history)}


async def _create(
    security: KafkaSecurity,
    catalogue: Catalogue,
    partitions: int,
    replication: int,
    *,
    as_json: bool,
) -> int:
    existing = await create_topics(security, catalogue, partitions, replication)
    if as_json:
        found = [
            {
                "topic": name,
                "created": name not in existing,
                "partitions": existing[name].partitions if name in existing else partitions,
            }
            for name in catalogue.topics
        ]
        write_line(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return 0
    for name in catalogue.topics:
        if name in existing:
            write_line(f"{name}: exists, with {_count(existing[name].partitions)}")
        else:
            write_line(f"{name}: created, with {_count(partitions)}")
    return 0


def _count(partitions: int) -> str:
    return "1 partition" if partitions == 1 else f"{partitions} partitions"


async def _list(security: KafkaSecurity, catalogue: Catalogue, *, as_json: bool) -> int:
    async with open_admin(security) as admin:
        existing = await admin.existing(catalogue.topics.keys())
    if as_json:
        document = [
            {
                "topic": topic.name,
                "category": topic.category,
                "exists": topic.name in existing,
                "partitions": existing[topic.name].partitions if topic.name in existing else None,
                "led": topic.name in existing and existing[topic.name].led,
            }
            for topic in catalogue.topics.values()
        ]
        write_line(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return 0
    rows = []
    styles = []
    for topic in catalogue.topics.values():
        found = existing.get(topic.name)
        if found is None:
            partitions, exists, style = "-", "no", "red"
        else:
            partitions = str(found.partitions)
            exists, style = ("yes", "") if found.led else ("yes, without a leader", "yellow")
        rows.append((topic.name, topic.category, partitions, exists))
        styles.append(style)
    print_table(("topic", "category", "partitions", "exists"), rows, styles)
    return 0
