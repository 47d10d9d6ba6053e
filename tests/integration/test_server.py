"""`odin-ws serve` for real: a process, sockets, signals, Kafka, and clients that are not ours."""

from __future__ import annotations

import json
import resource
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from confluent_kafka.admin import AdminClient
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.feeding import Publisher, Sent, eventually, new_topics, until
from tests.integration.serving import (
    Client,
    Server,
    connected,
    run_to_the_end,
    serving,
    started,
)

# Written out once more, and not taken from the catalogue: clients know these names.
EVENTS = {
    "trade": ("odin.trades", "TRADE_EXECUTED BUY_COMPLETED SELL_COMPLETED"),
    "liquidity": ("odin.liquidity", "LIQUIDITY_ADDED LIQUIDITY_REMOVED LIQUIDITY_REBALANCED"),
    "metadata": ("odin.metadata", "METADATA_UPDATED TOKEN_NAME_CHANGED TOKEN_FLAGS_CHANGED"),
    "social": ("odin.social", "TWITTER_VERIFIED SOCIAL_LINKS_UPDATED"),
    "community": (
        "odin.community",
        "COMMENT_POSTED COMMENT_PINNED COMMENT_UPVOTED FAVORITE_TOGGLED",
    ),
    "creation": ("odin.creation", "TOKEN_CREATED TOKEN_LISTED TOKEN_BONDED"),
    "analytics": (
        "odin.analytics",
        "PRICE_DELTA_UPDATED HOLDER_COUNT_UPDATED ANALYTICS_RECALCULATED TRENDING_UPDATED",
    ),
    "balances": ("odin.balances", "BALANCE_UPDATED TRANSFER_COMPLETED"),
}
BUNDLES = {
    "TRADING": {"trade", "liquidity", "analytics"},
    "FULL_MARKET": {"trade", "liquidity", "analytics", "metadata"},
    "COMMUNITY": {"community", "social", "metadata"},
    "PORTFOLIO": {"trade", "analytics", "balances"},
    "PRICE_ONLY": {"trade", "analytics"},
    "ALL": set(EVENTS),
}


@pytest.fixture
async def topics(apache: str) -> str:
    """The address of a broker that has Odin's topics."""
    known = AdminClient({"bootstrap.servers": apache}).list_topics(timeout=30).topics
    missing = set(kafka.TOPICS) - known.keys()
    if missing:
        await kafka.create_topics(apache, missing)
    return apache


@pytest.fixture(scope="module")
def shared(apache: str) -> Iterator[Server]:
    """A server for tests that leave it as it is; `server` waits for it."""
    with started({"KAFKA_BROKERS": apache}) as server:
        yield server


@pytest.fixture
async def server(shared: Server, topics: str) -> Server:
    """The shared server, ready, with `topics` there."""
    assert topics
    await shared.answers("/health/ready")
    # It may have started before the topics were there.
    await until(lambda: has_all_topics(shared))
    return shared


async def has_all_topics(server: Server) -> bool:
    """Whether a server reads all partitions of Odin's topics."""
    return await partitions_of(server) == len(kafka.TOPICS) * kafka.PARTITIONS


@pytest.fixture
def token() -> str:
    """A token that no other test uses."""
    return f"T{uuid.uuid4().hex[:8]}"


def event(token: str, category: str, number: int = 0, kind: str = "") -> Sent:
    """An event as Odin's publishers write it."""
    topic, kinds = EVENTS[category]
    value = {"type": kind or kinds.split()[0], "timestamp": 1, "data": {"n": number, "t": "ß💧"}}
    return Sent(topic, token.encode(), json.dumps(value, ensure_ascii=False).encode())


def numbers(client: Client, channel: str | None = None) -> list[int]:
    """The numbers of the events that a client received, on a channel or altogether."""
    return [
        one["data"]["data"]["n"]
        for one in client.messages
        if channel is None or one["channel"] == channel
    ]


# ---- what is delivered


async def test_all_topics_and_event_types_arrive(server: Server, topics: str, token: str) -> None:
    """Each of the 24 event types of the 8 topics comes on its channel, with its value as it was."""
    sent = [
        event(token, category, kind=kind)
        for category, (_topic, kinds) in EVENTS.items()
        for kind in kinds.split()
    ]
    async with connected(server) as client:
        await client.subscribe(channels=[f"{token}.*"])
        await Publisher(topics).publish(sent)
        await client.received(len(sent))
        client.check_sequence()
        assert len(sent) == 24
        got = {(one["channel"], json.dumps(one["data"])) for one in client.messages}
        wanted = {
            (f"{token}.{category}", json.dumps(json.loads(one.value or b"")))
            for category, (topic, _kinds) in EVENTS.items()
            for one in sent
            if one.topic == topic
        }
        assert got == wanted


@pytest.mark.parametrize("bundle", BUNDLES)
async def test_10_a_bundle_brings_its_categories(
    server: Server, topics: str, token: str, bundle: str
) -> None:
    """A subscriber to a bundle receives exactly what is published in its categories."""
    async with connected(server) as client, connected(server) as everything:
        await client.subscribe(bundles=[bundle], tokens=[token])
        await everything.subscribe(channels=[f"{token}.*"])
        await Publisher(topics).publish([event(token, category) for category in EVENTS])
        await everything.received(len(EVENTS))
        # Whatever of it the client was to receive was written before: in the same cycle or sooner.
        await client.command("heartbeat")
        assert {one["channel"] for one in client.messages} == {
            f"{token}.{category}" for category in BUNDLES[bundle]
        }
        assert len(client.messages) == len(BUNDLES[bundle])


async def test_nothing_is_dropped(server: Server, topics: str, token: str) -> None:
    """Thousands of records to subscribers of all kinds: each gets all that is its own, in order."""
    tokens = [f"{token}.{number}" for number in range(5)]
    categories = ("trade", "liquidity", "balances")
    sent = [
        event(tokens[number % 5], categories[number % 3], number=number) for number in range(3000)
    ]
    async with trio.open_nursery() as nursery:
        clients: dict[str, Client] = {}
        patterns = [f"{one}.{category}" for one in tokens for category in categories]
        patterns += [f"{one}.*" for one in tokens]
        for pattern in patterns:
            clients[pattern] = await nursery.start(subscribed, server, pattern)
        await Publisher(topics).publish(sent)
        for pattern, client in clients.items():
            one, _, category = pattern.rpartition(".")
            wanted = [
                number
                for number in range(3000)
                if one == tokens[number % 5] and category in {categories[number % 3], "*"}
            ]
            await client.received(len(wanted))
            await client.command("heartbeat")
            assert sorted(numbers(client)) == wanted
            client.check_sequence()
            for name in categories:
                channel = numbers(client, f"{one}.{name}")
                assert channel == sorted(channel)
        nursery.cancel_scope.cancel()


async def subscribed(server: Server, pattern: str, *, task_status: trio.TaskStatus[Client]) -> None:
    """Keep a client connected that has subscribed to a pattern."""
    async with connected(server) as client:
        await client.subscribe(channels=[pattern])
        task_status.started(client)
        await trio.sleep_forever()


async def test_1_2_two_instances_deliver_everything_once(topics: str, token: str) -> None:
    """Instances of one consumer group's name do not share: each delivers all records, one time."""
    async with (
        serving(topics, KAFKA_CONSUMER_GROUP="same") as one,
        serving(topics, KAFKA_CONSUMER_GROUP="same") as other,
        connected(one) as first,
        connected(other) as second,
    ):
        positions = []
        for client in first, second:
            answer = await client.subscribe(channels=[f"{token}-{n}.trade" for n in range(20)])
            assert "partitions" not in answer
        # Twenty keys meet all partitions but for bad luck, and this says so.
        sent = [event(f"{token}-{n % 20}", "trade", number=n) for n in range(500)]
        await Publisher(topics).publish(sent)
        for client in first, second:
            await client.received(500)
            await client.command("heartbeat")
            assert sorted(numbers(client)) == list(range(500))
            client.check_sequence()
            positions.append({(one["channel"], one["pos"]) for one in client.messages})
        assert positions[0] == positions[1]
        assert len({pos.partition("-")[0] for _channel, pos in positions[0]}) > 6


async def test_an_independent_client_written_on_wsproto(
    server: Server, topics: str, token: str
) -> None:
    """A client that sends its subscription together with the handshake is served (failing 21)."""
    wire = WSConnection(ConnectionType.CLIENT)
    subscribe = {"type": "subscribe", "id": 1, "data": {"channels": [f"{token}.trade"]}}
    texts: list[dict[str, Any]] = []
    stream = await trio.open_tcp_stream(LOOPBACK, server.port)
    async with stream:
        head = wire.send(Request(host=LOOPBACK, target="/ws"))
        # wsproto sends no frame before it is accepted: masked by hand, with a mask of zeros.
        payload = json.dumps(subscribe).encode()
        assert len(payload) < 126
        frame = bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload
        await stream.send_all(head + frame)

        async def read_until(count: int) -> None:
            with trio.fail_after(30):
                while len(texts) < count:
                    wire.receive_data(await stream.receive_some())
                    for item in wire.events():
                        if isinstance(item, TextMessage):
                            texts.append(json.loads(item.data))
                        else:
                            assert isinstance(item, AcceptConnection)

        await read_until(1)
        assert texts[0]["subscribed"] == [f"{token}.trade"]
        assert texts[0]["id"] == 1
        await Publisher(topics).publish([event(token, "trade", number=7)])
        await read_until(2)
        assert texts[1]["channel"] == f"{token}.trade"
        assert texts[1]["seq"] == 1
        assert texts[1]["data"]["data"]["n"] == 7


async def test_a_client_comes_back(server: Server, topics: str, token: str) -> None:
    """A client that lost its connection subscribes anew and goes on, numbered from 1 again."""
    publisher = Publisher(topics)
    async with connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await publisher.publish([event(token, "trade", number=1)])
        await client.received(1)
    async with connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await publisher.publish([event(token, "trade", number=2)])
        await client.received(1)
        assert numbers(client) == [2]
        client.check_sequence()


# ---- what operators see


async def test_23_health_tells_the_truth_about_kafka(token: str) -> None:
    """Without a broker: stopped and not ready; with it: running; without it again: stopped.

    Clients stay connected throughout, and are answered.
    """
    (port,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{port}", ready=False) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await expect_kafka(server, "stopped", 503)
        assert (await server.get("/health/ready")).status_code == 503
        async with embedded_broker(port) as broker:
            await kafka.create_topics(broker.bootstrap)
            await server.answers("/health/ready")
            await expect_kafka(server, "running", 200)
            await Publisher(broker.bootstrap).publish([event(token, "trade", number=1)])
            await client.received(1)
            await broker.kill()
            await server.answers("/health", 503)
            await expect_kafka(server, "stopped", 503)
            # Nobody is sent away: the other instances have lost it too.
            assert (await server.get("/health/ready")).status_code == 200
            assert (await client.command("heartbeat"))["type"] == "pong"
            await broker.start()
            await server.answers("/health", 200)
            await expect_kafka(server, "running", 200)
        assert client.closed is None


async def expect_kafka(server: Server, status: str, code: int) -> None:
    """Health, its status code and the metric say the same."""
    response = await server.get("/health")
    report = response.json()
    assert response.status_code == code, report
    assert report["checks"]["kafka"]["status"] == status, report
    assert report["healthy"] is (status == "running")
    assert bool(report["errors"]) is (status == "stopped")
    assert await server.metric("ws_kafka_connected") == (status == "running")


async def test_24_metrics_count_what_was_delivered(topics: str, token: str) -> None:
    """Records by topic, messages, bytes, connections and lag are what really happened."""
    async with serving(topics) as server:
        async with connected(server) as client:
            await client.subscribe(channels=[f"{token}.trade"])
            await Publisher(topics).publish([event(token, "trade", number=n) for n in range(50)])
            await client.received(50)
            size = sum(len(json.dumps(one, separators=(",", ":"))) for one in client.messages)
            assert await server.metric("ws_messages_sent_total") == 50
            assert await server.metric("ws_bytes_sent_total") > size
            assert await server.metric("ws_connections_active") == 1
            assert (
                await server.metric("ws_kafka_messages_received_total", topic="odin.trades") == 50
            )
            assert await server.metric("ws_kafka_lag_records") == 0
            assert await server.metric("ws_record_age_seconds_count") == 50
        await closed(server, 1)
        assert await server.metric("ws_connections_active") == 0
        assert await server.metric("ws_disconnects_total") == 1


async def closed(server: Server, count: int) -> None:
    """Wait until so many connections have ended."""

    async def enough() -> bool:
        return await server.metric("ws_disconnects_total") >= count

    await until(enough)


# ---- how it ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_19_a_signal_drains(topics: str, token: str, number: signal.Signals) -> None:
    """Not ready first and still serving; then a close 1012 for everybody, and exit status 0."""
    async with serving(topics, WS_DRAIN_DELAY="1.5", WS_DRAIN_SECONDS="5") as server:
        async with connected(server) as client:
            await client.subscribe(channels=[f"{token}.trade"])
            server.signal(number)
            signalled = trio.current_time()
            await server.answers("/health/ready", 503)
            assert (await server.get("/health/live")).status_code == 200
            # Load balancers have yet to notice: whom they still send is served.
            async with connected(server) as late:
                await late.subscribe(channels=[f"{token}.trade"])
                await Publisher(topics).publish([event(token, "trade")])
                for one in client, late:
                    await one.received(1)
                    assert await one.ended() == (1012, "the server is restarting")
        assert trio.current_time() - signalled >= 1.5
        assert await server.ended(1.5 + 5 - (trio.current_time() - signalled)) == 0
        assert "Traceback" not in server.output
        assert server.events("stopped")[0]["disconnects"] == 2


async def test_a_second_signal_ends_at_once(topics: str) -> None:
    """During a long drain another signal ends the process, with status 1 and no traceback."""
    async with serving(topics, WS_DRAIN_DELAY="60") as server, connected(server) as client:
        server.signal(signal.SIGTERM)
        await eventually(lambda: server.events("draining"))
        server.signal(signal.SIGTERM)
        assert await server.ended(5) == 1
        assert "Traceback" not in server.output
        await client.ended()


@pytest.mark.parametrize("away", ["killed", "frozen"])
async def test_19_a_dead_broker_does_not_hold_up_the_end(away: str) -> None:
    """The drain is as quick as with a broker, in order, whether it refuses or does not answer."""
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap, ["odin.trades"], 1)
        async with serving(broker.bootstrap, WS_DRAIN_SECONDS="5") as server:
            async with connected(server) as client:
                if away == "killed":
                    await broker.kill()
                else:
                    broker.pause()
                await server.answers("/health", 503)
                signalled = trio.current_time()
                server.signal(signal.SIGTERM)
                assert (await client.ended())[0] == 1012
            assert await server.ended(5 - (trio.current_time() - signalled)) == 0
            assert "Traceback" not in server.output


# ---- how it does not start


async def test_26_a_misspelt_setting_is_named() -> None:
    """A near miss stops the start with status 2 and a line that says which and what is meant."""
    status, output = await run_to_the_end({"WS_MAX_CONECTIONS": "5", "KAFKA_GROUP_ID": "mine"})
    assert status == 2
    assert "WS_MAX_CONECTIONS: no such setting; WS_MAX_CONNECTIONS is meant" in output
    assert "KAFKA_GROUP_ID: no such setting; KAFKA_CONSUMER_GROUP is meant" in output
    assert len(output.splitlines()) == 2


async def test_too_few_descriptors_are_told_of_at_the_start() -> None:
    """A limit below the connections asked for stops the start, with both numbers in one line."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))

    status, output = await run_to_the_end({"WS_MAX_CONNECTIONS": "5000"}, prepare)
    assert status == 2
    (line,) = output.splitlines()
    assert "WS_MAX_CONNECTIONS=5000 needs " in line
    assert "the limit is 1000" in line


@pytest.mark.parametrize("setting", ["WS_ADDR", "WS_OPS_ADDR"])
async def test_a_port_in_use_is_told_in_a_line(setting: str) -> None:
    """A port that somebody has stops the start with a line that names it, and no traceback."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        address = f"{LOOPBACK}:{taken.getsockname()[1]}"
        status, output = await run_to_the_end({setting: address, "KAFKA_BROKERS": f"{LOOPBACK}:1"})
    assert status == 1
    assert "Traceback" not in output
    assert f"cannot listen at {address}: Address already in use" in output.splitlines()[-1]


async def test_a_catalogue_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    """The line names the file and the place in it."""
    path = tmp_path / "catalogue.toml"
    path.write_text('[[topics]]\nname = "shop.orders"\n')
    status, output = await run_to_the_end({"WS_CATALOGUE": str(path)})
    assert status == 2
    (line,) = output.splitlines()
    assert f"WS_CATALOGUE={path}: topics[0].category" in line


# ---- what it logs


async def test_27_no_line_for_a_message_or_a_connection(topics: str, token: str) -> None:
    """Ten connections and five thousand messages add nothing to the log at its usual level."""
    async with serving(topics, LOG_LEVEL="info") as server:
        before = len(server.lines)
        async with trio.open_nursery() as nursery:
            clients = [await nursery.start(subscribed, server, f"{token}.trade") for _ in range(10)]
            await Publisher(topics).publish([event(token, "trade", number=n) for n in range(500)])
            for client in clients:
                await client.received(500)
            nursery.cancel_scope.cancel()
        await closed(server, 10)
        assert server.lines[before:] == []


async def test_27_a_broker_that_is_away_is_told_of_once() -> None:
    """Five seconds without the broker are a handful of lines, and so is its loss."""
    (port,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{port}", ready=False) as server:
        with trio.move_on_after(5):
            await server.ended()
        assert len(server.lines) < 12, server.output
        async with embedded_broker(port) as broker:
            await kafka.create_topics(broker.bootstrap)
            await server.answers("/health/ready")
            before = len(server.lines)
            await broker.kill()
            with trio.move_on_after(5):
                await server.ended()
            assert len(server.lines) - before < 12, "".join(server.lines[before:])
            assert [one["reason"] for one in server.events("feed is stalled")]


async def test_log_level(topics: str) -> None:
    """At `error` a server that works prints nothing; at `debug` it tells of a connection."""
    async with serving(topics, LOG_LEVEL="error") as server, connected(server):
        pass
    assert server.output == ""
    async with serving(topics, LOG_LEVEL="debug") as server:
        async with connected(server):
            pass
        await eventually(lambda: server.events("closed"))


async def test_log_format(topics: str) -> None:
    """`json` is an object a line, with level, time and logger; `text` is for reading."""
    async with serving(topics, LOG_FORMAT="json") as server:
        for line in server.lines:
            assert {"event", "level", "timestamp", "logger"} <= json.loads(line).keys()
    async with serving(topics, LOG_FORMAT="text") as server:
        assert "serving" in server.output
        assert not any(line.startswith("{") for line in server.lines)


# ---- the other settings that take a real Kafka, or a real socket, to be seen


async def test_kafka_brokers(topics: str, token: str) -> None:
    """One broker of several that answers is enough."""
    (nobody,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{nobody},{topics}") as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await Publisher(topics).publish([event(token, "trade")])
        await client.received(1)


async def test_kafka_assignment_and_consumer_group(topics: str, token: str) -> None:
    """Two members of a group share the partitions, say so in acks and health, and serve them."""
    settings = {"KAFKA_ASSIGNMENT": "group", "KAFKA_CONSUMER_GROUP": f"group-{token}"}
    async with serving(topics, settings) as one, serving(topics, settings) as other:

        async def shared_out() -> bool:
            parts = [await partitions_of(server) for server in (one, other)]
            return all(parts) and sum(parts) == len(kafka.TOPICS) * kafka.PARTITIONS

        await until(shared_out)
        async with connected(one) as first, connected(other) as second:
            shares = []
            for client in first, second:
                channels = [f"{token}-{n}.trade" for n in range(20)]
                answer = await client.subscribe(channels=channels, positions=True)
                share = answer["partitions"]["odin.trades"]
                assert [*map(int, answer["positions"]["odin.trades"])] == share
                shares.append(set(share))
            assert shares[0] | shares[1] == set(range(12))
            assert not shares[0] & shares[1]
            sent = [event(f"{token}-{n % 20}", "trade", number=n) for n in range(200)]
            await Publisher(topics).publish(sent)
            await eventually(lambda: len(first.messages) + len(second.messages) >= 200)
            for client in first, second:
                await client.command("heartbeat")
            assert sorted(numbers(first) + numbers(second)) == list(range(200))
            for client, share in zip((first, second), shares, strict=True):
                assert {int(one["pos"].partition("-")[0]) for one in client.messages} <= share
        assert f"group-{token}" in await groups(topics)


async def partitions_of(server: Server) -> int:
    """How many partitions a server says that it serves."""
    served = (await server.health())["checks"]["kafka"]["partitions"]
    return sum(map(len, served.values()))


async def groups(bootstrap: str) -> set[str]:
    """The consumer groups that the broker knows."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    listing = await trio.to_thread.run_sync(admin.list_consumer_groups().result)
    return {one.group_id for one in listing.valid}


async def test_kafka_fetch_max_wait(topics: str) -> None:
    """While nothing is published, a server whose fetches may be held for longer wakes up less."""
    async with (
        serving(topics, KAFKA_FETCH_MAX_WAIT_MS="10") as restless,
        serving(topics, KAFKA_FETCH_MAX_WAIT_MS="5000") as calm,
    ):
        before = wakes(restless), wakes(calm)
        # How often in so long is what is measured.
        await trio.sleep(2)
        assert wakes(restless) - before[0] > 3 * (wakes(calm) - before[1])


def wakes(server: Server) -> int:
    """How often a server's process has waited so far."""
    return psutil.Process(server.process.pid).num_ctx_switches().voluntary


async def test_kafka_probe_seconds() -> None:
    """A broker that freezes is noticed within some probes, and the reason tells their bound."""
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap)
        async with serving(broker.bootstrap, KAFKA_PROBE_SECONDS="0.3") as server:
            broker.pause()
            await server.answers("/health", 503, seconds=3)
            (error,) = (await server.health())["errors"]
            assert error.endswith("no answer within 0.3 s")


async def test_the_addresses(topics: str) -> None:
    """Subscribers and operators are served where the settings say, and the log says so too."""
    async with serving(topics) as server:
        (line,) = server.events("serving")
        assert line["subscribers"] == server.environ["WS_ADDR"]
        assert line["ops"] == server.environ["WS_OPS_ADDR"]
        listening = {
            f"{one.laddr.ip}:{one.laddr.port}"
            for one in psutil.Process(server.process.pid).net_connections("inet")
            if one.status == psutil.CONN_LISTEN
        }
        assert listening == {line["subscribers"], line["ops"]}


async def test_any_free_port(topics: str) -> None:
    """With port 0 the log tells the ports that it got."""
    anywhere = {"WS_ADDR": f"{LOOPBACK}:0", "WS_OPS_ADDR": f"{LOOPBACK}:0"}
    with started({"KAFKA_BROKERS": topics} | anywhere) as server:
        await eventually(lambda: server.events("serving"))
        (line,) = server.events("serving")
        for name in "subscribers", "ops":
            host, _, port = line[name].rpartition(":")
            assert host == LOOPBACK
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.aclose()


async def test_ws_catalogue(apache: str, token: str, tmp_path: Path) -> None:
    """Another catalogue is another domain: its topic is served, and Odin's are unknown."""
    (topic,) = new_topics()
    await kafka.create_topics(apache, [topic], 3)
    path = tmp_path / "shop.toml"
    path.write_text(
        f'[[topics]]\nname = "{topic}"\ncategory = "order"\nevents = ["ORDERED"]\n'
        '[bundles]\nSHOP = ["order"]\n'
    )
    async with serving(apache, WS_CATALOGUE=str(path)) as server, connected(server) as client:
        assert (await client.subscribe(bundles=["SHOP"]))["subscribed"] == ["SHOP"]
        answer = await client.command("subscribe", topics=["odin.trades"])
        assert answer["rejected"][0]["code"] == "UNKNOWN_TOPIC"
        await Publisher(apache).publish([Sent(topic, token.encode(), b'{"type":"ORDERED"}')])
        await client.received(1)
        assert client.messages[0]["channel"] == f"{token}.order"
        assert (await server.health())["checks"]["kafka"]["partitions"] == {topic: [0, 1, 2]}
