"""`odin-ws topics` and `odin-ws publish` as child processes, with a broker."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from confluent_kafka import Message
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs hide it
    AdminClient,
    ConfigResource,
)

from odin_ws.catalogue import default_catalogue
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.cli.commands import ODIN_WS, run_command, started
from tests.integration import kafka

# For one call of the independent client; a free machine takes milliseconds.
CLIENT_SECONDS = 20

RETENTION_MS = {
    "odin.trades": "30000",
    "odin.balances": "30000",
    "odin.liquidity": "60000",
    "odin.community": "300000",
    "odin.analytics": "300000",
    "odin.metadata": "3600000",
    "odin.social": "3600000",
    "odin.creation": "3600000",
}


@asynccontextmanager
async def no_topics(bootstrap: str) -> AsyncIterator[None]:
    """A broker without the catalogue's topics, before and after."""
    await kafka.delete_topics(bootstrap)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):  # bounded by the helper itself
            await kafka.delete_topics(bootstrap)


def rows(table: str) -> dict[str, list[str]]:
    """A printed table by its first column, without the heading."""
    lines = [line.split() for line in table.splitlines()]
    return {line[0]: line[1:] for line in lines[1:]}


async def read_all(bootstrap: str, count: int) -> list[Message]:
    """The first `count` records of all topics."""
    return await kafka.read_records(bootstrap, kafka.TOPICS, kafka.PARTITIONS, count)


def config_of(bootstrap: str, topic: str) -> dict[str, str]:
    """A topic's settings as the broker has them."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    settings = admin.describe_configs([resource])[resource].result(CLIENT_SECONDS)
    return {name: entry.value for name, entry in settings.items()}


async def test_topics_create_creates_only_missing_topics(embedded: str) -> None:
    """Missing topics are created, existing topics are left unchanged; the list shows both."""
    async with no_topics(embedded):
        await kafka.create_topics(embedded, ["odin.trades"], partitions=3)
        before = await run_command("topics", "list", KAFKA_BROKERS=embedded)
        listed = rows(before.stdout)
        assert tuple(listed) == kafka.TOPICS
        assert listed["odin.trades"] == ["trade", "3", "yes"]
        assert listed["odin.social"] == ["social", "-", "no"]

        made = await run_command("topics", "create", KAFKA_BROKERS=embedded)
        assert made.returncode == 0
        assert "odin.trades: exists, with 3 partitions" in made.stdout
        assert made.stdout.count("created, with 12 partitions") == 7

        again = await run_command("topics", "create", "--partitions", "2", KAFKA_BROKERS=embedded)
        assert again.returncode == 0
        assert again.stdout.count("exists") == 8
        after = await run_command("topics", "list", KAFKA_BROKERS=embedded)
        assert {row[1] for row in rows(after.stdout).values()} == {"3", "12"}
        assert {row[2] for row in rows(after.stdout).values()} == {"yes"}


@pytest.mark.parametrize("words", [("topics", "list"), ("topics", "create")])
async def test_topics_command_reports_a_full_disk_in_one_line(
    embedded: str, words: tuple[str, ...]
) -> None:
    """The exit status is 1, because the table is incomplete."""
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- takes microseconds
        async with started([ODIN_WS, *words], {"stdout": full}, KAFKA_BROKERS=embedded) as command:
            done = await command.ended()
    assert done.returncode == 1
    assert done.stderr == "odin-ws: standard output: No space left on device\n"


async def test_created_topics_have_the_retention_of_compose(apache: str) -> None:
    """Each topic has its retention, snappy, and the partitions of `--partitions`."""
    async with no_topics(apache):
        made = await run_command("topics", "create", "--partitions", "4", KAFKA_BROKERS=apache)
        assert made.stdout.count("created, with 4 partitions") == 8
        for topic, retention in RETENTION_MS.items():
            config = await trio.to_thread.run_sync(config_of, apache, topic)
            assert config["retention.ms"] == retention
            assert config["compression.type"] == "snappy"


async def test_topics_create_prints_the_error_of_the_broker(apache: str) -> None:
    """More copies than there are brokers: exit status 1, and the broker's error message."""
    async with no_topics(apache):
        made = await run_command("topics", "create", "--replication", "3", KAFKA_BROKERS=apache)
        assert made.returncode == 1
        (line,) = made.stderr.splitlines()
        assert "was not created" in line
        assert "replication" in line.lower()


@pytest.mark.parametrize(
    "words", [("topics", "create"), ("topics", "list"), ("publish", "--seconds", "1")]
)
async def test_command_without_a_broker_names_the_setting(words: tuple[str, ...]) -> None:
    """Without a broker the exit status is 1, and one line on stderr names the setting."""
    (unused,) = free_ports(1)
    done = await run_command(*words, KAFKA_BROKERS=f"{LOOPBACK}:{unused}")
    assert done.returncode == 1
    assert not done.stdout
    assert (
        done.stderr
        == f"odin-ws: KAFKA_BROKERS={LOOPBACK}:{unused}: no broker responds at this address\n"
    )


async def test_publish_sends_every_type_by_token(embedded: str) -> None:
    """Kafka has every type in its topic, and each token in one partition of a topic."""
    async with no_topics(embedded):
        await kafka.create_topics(embedded)
        words = ("publish", "--rate", "400", "--seconds", "0.5", "--tokens", "BTC,a.b,ODIN")
        done = await run_command(*words, KAFKA_BROKERS=embedded)
        assert done.returncode == 0
        assert "published 200 events" in done.stderr
        assert not done.stdout
        records = await read_all(embedded, 200)
    types: Counter[str] = Counter()
    partitions: defaultdict[tuple[str, bytes], set[int]] = defaultdict(set)
    for record in records:
        topic, key, value, partition = (
            record.topic(),
            record.key(),
            record.value(),
            record.partition(),
        )
        assert topic is not None
        assert isinstance(key, bytes)
        assert value is not None
        assert partition is not None
        event = json.loads(value)
        assert event["type"] in default_catalogue().topics[topic].events
        types[event["type"]] += 1
        partitions[topic, key].add(partition)
    assert len(types) == 24
    assert {key for _, key in partitions} == {b"BTC", b"a.b", b"ODIN"}
    assert all(len(numbers) == 1 for numbers in partitions.values())


async def test_publish_prints_json(embedded: str) -> None:
    """Stdout has one object per second and the result; stderr is empty."""
    async with no_topics(embedded):
        await kafka.create_topics(embedded)
        words = ("publish", "--rate", "100", "--seconds", "2.5", "--json")
        done = await run_command(*words, KAFKA_BROKERS=embedded)
    assert (done.returncode, done.stderr) == (0, "")
    *progress, result = map(json.loads, done.stdout.splitlines())
    assert progress
    assert {item["type"] for item in progress} == {"progress"}
    assert result["type"] == "result"
    assert (result["published"], result["not_acknowledged"], result["total"]) == (250, 0, 250)
    assert result.keys() == progress[0].keys()


async def test_publish_without_topics_names_the_command_that_creates_them(embedded: str) -> None:
    """Without topics `publish` exits with 1 and names the command that creates them."""
    async with no_topics(embedded):
        done = await run_command("publish", "--seconds", "1", KAFKA_BROKERS=embedded)
    assert done.returncode == 1
    assert "odin-ws topics create" in done.stderr
    assert "odin.trades" in done.stderr


async def test_ctrl_c_ends_publish_with_a_summary(embedded: str) -> None:
    """Without --seconds `publish` runs until Ctrl-C; it prints a summary and exits with 0."""
    async with no_topics(embedded):
        await kafka.create_topics(embedded)
        words = [ODIN_WS, "publish", "--rate", "1000"]
        async with started(words, KAFKA_BROKERS=embedded) as publishing:
            await read_all(embedded, 100)
            publishing.interrupt()
            done = await publishing.ended()
    assert done.returncode == 0
    assert re.fullmatch(r"published \d+ events in .* s \(\d+/s\)\n", done.stderr)


@pytest.mark.parametrize("command", ["publish", "demo"])
async def test_catalogue_without_event_types_is_reported(command: str, tmp_path: Path) -> None:
    """The exit status is 2, and one line names the file and what it lacks."""
    path = tmp_path / "catalogue.toml"
    path.write_text('[[topics]]\nname = "a"\ncategory = "b"\n', "utf-8")
    done = await run_command(command, WS_CATALOGUE=str(path))
    assert done.returncode == 2
    assert done.stderr == f"odin-ws: WS_CATALOGUE={path}: no topic has event types to generate\n"


async def test_topics_and_publish_accept_another_catalogue(embedded: str) -> None:
    """`topics create`, `topics list` and `publish` accept `--catalogue`."""
    option = ("--catalogue", "examples/sensors.toml")
    created = await run_command("topics", "create", *option, "--json", KAFKA_BROKERS=embedded)
    assert created.returncode == 0, created.stderr
    topics = ["sensors.readings", "sensors.alarms"]
    made = {"created": True, "partitions": 12}
    assert json.loads(created.stdout) == [{"topic": topic, **made} for topic in topics]
    listed = await run_command("topics", "list", *option, "--json", KAFKA_BROKERS=embedded)
    assert json.loads(listed.stdout)[0] == {
        "topic": "sensors.readings",
        "category": "reading",
        "exists": True,
        "partitions": 12,
        "led": True,
    }
    done = await run_command("publish", *option, "--seconds", "1", KAFKA_BROKERS=embedded)
    assert done.returncode == 0
    # A slow run has lines of its progress before.
    assert done.stderr.splitlines()[-1].startswith("published 50 events in ")
