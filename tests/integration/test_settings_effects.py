"""Settings whose effect shows only with a real Kafka or a real socket."""

from __future__ import annotations

from pathlib import Path

import psutil
import trio
from confluent_kafka.admin import AdminClient

from odin_ws.testing.brokers import embedded_broker
from odin_ws.testing.ports import LOOPBACK, free_ports
from tests.integration import kafka
from tests.integration.events import event, numbers
from tests.integration.running_source import Publisher, Sent, new_topics, until, wait_until
from tests.integration.servers import Server, connected, serving, started
from tests.integration.watchers import partitions_of


async def test_kafka_brokers(topics: str, token: str) -> None:
    """One reachable broker of several is enough."""
    (nobody,) = free_ports(1)
    async with serving(f"{LOOPBACK}:{nobody},{topics}") as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await Publisher(topics).publish([event(token, "trade")])
        await client.received(1)


async def test_kafka_assignment_and_consumer_group(topics: str, token: str) -> None:
    """Two members of a group share the partitions, report and serve them."""
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
                response = await client.subscribe(channels=channels, positions=True)
                share = response["partitions"]["odin.trades"]
                assert [*map(int, response["positions"]["odin.trades"])] == share
                shares.append(set(share))
            assert shares[0] | shares[1] == set(range(12))
            assert not shares[0] & shares[1]
            sent = [event(f"{token}-{n % 20}", "trade", number=n) for n in range(200)]
            await Publisher(topics).publish(sent)
            await wait_until(lambda: len(first.messages) + len(second.messages) >= 200)
            for client in first, second:
                await client.command("heartbeat")
            assert sorted(numbers(first) + numbers(second)) == list(range(200))
            for client, share in zip((first, second), shares, strict=True):
                assert {
                    int(message["pos"].partition("-")[0]) for message in client.messages
                } <= share
        assert f"group-{token}" in await groups(topics)


async def groups(bootstrap: str) -> set[str]:
    """The consumer groups that the broker knows."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    listing = await trio.to_thread.run_sync(admin.list_consumer_groups().result)
    return {one.group_id for one in listing.valid}


async def test_kafka_fetch_max_wait(topics: str) -> None:
    """A server whose fetches may wait longer wakes up less while nothing is published."""
    async with (
        serving(topics, KAFKA_FETCH_MAX_WAIT_SECONDS="0.01") as restless,
        serving(topics, KAFKA_FETCH_MAX_WAIT_SECONDS="5") as calm,
    ):
        before = wakes(restless), wakes(calm)
        # How often in so long is what is measured.
        await trio.sleep(2)
        assert wakes(restless) - before[0] > 3 * (wakes(calm) - before[1])


def wakes(server: Server) -> int:
    """The number of times that a server's process has waited."""
    return psutil.Process(server.process.pid).num_ctx_switches().voluntary


async def test_kafka_probe_seconds() -> None:
    """The server notices a frozen broker within some probes; the reason has their time-out."""
    async with embedded_broker() as broker:
        await kafka.create_topics(broker.bootstrap)
        async with serving(broker.bootstrap, KAFKA_PROBE_SECONDS="0.3") as server:
            broker.pause()
            await server.responses("/health", 503, seconds=3)
            (error,) = (await server.health())["errors"]
            assert error.endswith("no response within 0.3 s")


async def test_record_headers(topics: str, token: str) -> None:
    """Messages carry the named headers: live, from the history at the start, and from Kafka."""
    sent = event(token, "trade")._replace(headers=(("tenant", b"7"), ("other", b"x")))
    several = {"WS_RECORD_HEADERS": "traceparent, tenant"}
    async with serving(topics, several) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"])
        await Publisher(topics).publish([sent])
        await client.received(1)
        assert client.messages[0]["headers"] == {"tenant": "7"}
    async with serving(topics) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"], since_ms=0)
        await client.received(1)
        assert "headers" not in client.messages[0]
    settings = {"WS_RECORD_HEADERS": "tenant", "WS_HISTORY_BYTES": "0"}
    async with serving(topics, settings) as server, connected(server) as client:
        await client.subscribe(channels=[f"{token}.trade"], since_ms=0)
        await client.received(1)
        assert client.messages[0]["headers"] == {"tenant": "7"}


async def test_addresses_are_served_and_logged(topics: str) -> None:
    """Subscribers and operators are served at the configured addresses, and the log names these."""
    async with serving(topics) as server:
        (line,) = server.events("serving")
        assert line["subscribers"] == server.environ["WS_ADDR"]
        assert line["ops"] == server.environ["WS_OPS_ADDR"]
        listening = {
            f"{connection.laddr.ip}:{connection.laddr.port}"
            for connection in psutil.Process(server.process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {line["subscribers"], line["ops"]}


async def test_port_0_is_any_free_port(topics: str) -> None:
    """With port 0 the log names the ports that the server got."""
    anywhere = {"WS_ADDR": f"{LOOPBACK}:0", "WS_OPS_ADDR": f"{LOOPBACK}:0"}
    with started({"KAFKA_BROKERS": topics} | anywhere) as server:
        await wait_until(lambda: server.events("serving"))
        (line,) = server.events("serving")
        for name in "subscribers", "ops":
            host, _, port = line[name].rpartition(":")
            assert host == LOOPBACK
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.aclose()


async def test_ws_catalogue(apache: str, token: str, tmp_path: Path) -> None:
    """With another catalogue its topic is served, and Odin's are unknown."""
    (topic,) = new_topics()
    await kafka.create_topics(apache, [topic], 3)
    path = tmp_path / "shop.toml"
    path.write_text(
        f'[[topics]]\nname = "{topic}"\ncategory = "order"\nevents = ["ORDERED"]\n'
        '[bundles]\nSHOP = ["order"]\n'
    )
    async with serving(apache, WS_CATALOGUE=str(path)) as server, connected(server) as client:
        assert (await client.subscribe(bundles=["SHOP"]))["subscribed"] == ["SHOP"]
        response = await client.command("subscribe", topics=["odin.trades"])
        assert response["rejected"][0]["code"] == "UNKNOWN_TOPIC"
        await Publisher(apache).publish([Sent(topic, token.encode(), b'{"type":"ORDERED"}')])
        await client.received(1)
        assert client.messages[0]["channel"] == f"{token}.order"
        assert (await server.health())["checks"]["kafka"]["partitions"] == {topic: [0, 1, 2]}
