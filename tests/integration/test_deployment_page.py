"""docs/deployment.md: its files and commands, with the addresses and paths of this machine.

Apache Kafka with ACLs, its command line tools, HAProxy, one instance, `odin-ws check` and `tail`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import STDOUT
from typing import Final

import attrs
import pytest
import trio
import trustme

from odin_ws.testing.brokers import java_command
from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.cli.commands import ODIN_WS, environment
from tests.deploy.debian import find_program, program
from tests.docs.pages import ROOT, blocks, page
from tests.docs.test_sizing import row
from tests.integration import kafka
from tests.integration.running_source import until
from tests.integration.secure_brokers import kafka_with_acls
from tests.integration.servers import Server, serving
from tests.integration.test_auth import publishing
from tests.jwt_issuer import issuer
from tests.listener.certificates import Authority
from tests.plain_http import plain_client

PAGE: Final = page("docs/deployment.md")

# Kafka's tools by the classes that their scripts run.
TOOLS: Final = {
    "kafka-acls": "org.apache.kafka.tools.AclCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
}

# A start of Java takes two seconds on a free machine; the rest is for a busy one.
COMMAND_SECONDS: Final = 200
STOP_SECONDS: Final = 5

ADMIN: Final = ("admin", "ADMIN-PASSWORD")

BROKERS: Final = [f"kafka-{number}.example.com:9093" for number in (1, 2, 3)]
URL: Final = "wss://ws.example.com/ws"
JWKS: Final = "https://login.example.com/.well-known/jwks.json"


def file(name: str) -> str:
    """The content of a file that the page shows; its first line is a comment with its name."""
    shown = [
        block.text for language in ("", "bash", "ini", "yaml") for block in blocks(PAGE, language)
    ]
    (found,) = [text for text in shown if text.startswith(f"# {name}\n")]
    return found


def commands(command: str) -> str:
    """The commands of the one block of the page with this command."""
    (found,) = [
        block.text for block in blocks(PAGE, "console") if re.search(rf"\b{command}\b", block.text)
    ]
    return "".join(line.removeprefix("$ ") for line in found.splitlines(keepends=True))


def change(text: str, changes: Mapping[str, str]) -> str:
    """Replace each of these; all of them are there."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@attrs.frozen
class Place:
    """This machine's part: its folder for /etc/odin-ws, and Kafka's address."""

    home: Path
    kafka: str

    async def run(self, script: str, **more: str) -> str:
        """Run commands in a shell; returns what they print. Each of them succeeds."""
        environ = environment(more)
        environ["PATH"] = f"{self.home}/bin:{Path(ODIN_WS).parent}:{os.environ['PATH']}"
        with trio.fail_after(COMMAND_SECONDS):
            done = await trio.run_process(
                ["bash", "-ec", script],
                cwd=self.home,
                env=environ,
                capture_stdout=True,
                stderr=STDOUT,
                check=False,
            )
        assert done.returncode == 0, done.stdout.decode()
        return done.stdout.decode()

    def local(self, text: str, **changes: str) -> str:
        """Replace the page's folder, and all its brokers by ours."""
        text = text.replace(",".join(BROKERS), self.kafka).replace(BROKERS[0], self.kafka)
        return change(text.replace("/etc/odin-ws", str(self.home)), changes)

    def tools(self) -> None:
        """Write scripts with the names of Kafka's tools."""
        java = " ".join(f"'{word}'" for word in java_command(kafka.libs()))
        for name, main in TOOLS.items():
            path = self.home / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(f'#!/bin/sh\nexec {java} {main} "$@"\n', "utf-8")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """The files of the page's table, and a Kafka that knows only its administrator."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "kafka-ca.pem")
    Authority(tmp_path).write_ca(tmp_path / "ca.pem")
    (tmp_path / "kafka-password").write_text("horse $battery", "utf-8")
    (tmp_path / "ops-token").write_text("0123456789abcdef", "utf-8")
    shutil.copy(ROOT / "compose" / "policy.toml", tmp_path)
    directory = tmp_path / "broker"
    directory.mkdir()
    async with kafka_with_acls(directory, authority, *ADMIN) as address:
        place = Place(tmp_path, address)
        place.tools()
        (tmp_path / "admin.properties").write_text(place.local(file("admin.properties")), "utf-8")
        yield place


@asynccontextmanager
async def balancer(place: Place, server: Server) -> AsyncIterator[int]:
    """Run HAProxy with the page's configuration and this one instance; yields its port."""
    (port,) = free_ports(1)
    text = re.sub(r"(?m)^    server odin-ws-[2-6] .*\n", "", file("/etc/haproxy/haproxy.cfg"))
    text = change(
        text,
        {
            "maxconn 60000": "maxconn 100",
            "bind :443": f"bind {LOOPBACK}:{port}",
            "port 3003": f"port {server.ops_port}",
            "10.0.0.11:3002": f"{LOOPBACK}:{server.port}",
        },
    )
    path = place.home / "haproxy.cfg"
    path.write_text(text, "utf-8")
    process = ChildProcess([program("haproxy"), "-db", "-f", str(path)], place.home / "haproxy.log")

    async def up() -> bool:
        assert process.running, process.tail()
        try:
            await (await trio.open_tcp_stream(LOOPBACK, port)).aclose()
        except OSError:
            return False
        return True

    try:
        await process.start()
        await until(up)
        yield port
    finally:
        with trio.CancelScope(shield=True):  # bounded by STOP_SECONDS
            await process.end(STOP_SECONDS)


@pytest.mark.timeout(400)
async def test_the_plan_works(place: Place) -> None:
    """After the page's commands an instance with its settings serves by HAProxy, TLS and tokens."""
    await place.run(place.local(commands("kafka-configs")))
    create = {"--replication 3": "--replication 1"}
    await place.run(place.local(commands("topics create"), **create))
    keys = issuer("RS256", "a")
    token = keys.token(iss="https://login.example.com/", aud="odin-ws")
    (place.home / "token").write_text(token, "utf-8")
    async with publishing([keys]) as jwks:
        text = place.local(
            file("/etc/odin-ws/environment"),
            **{JWKS: jwks, "WS_TRUSTED_PROXIES=10.0.0.5": f"WS_TRUSTED_PROXIES={LOOPBACK}"},
        )
        (place.home / "environment").write_text(text, "utf-8")
        settings = dict(re.findall(r"(?m)^(\w+)=(.*)$", text))
        assert settings.pop("WS_OPS_ADDR") == ":3003"
        async with serving(place.kafka, settings) as server, balancer(place, server) as port:
            url = {URL: f"wss://{LOOPBACK}:{port}/ws"}
            trust = {"SSL_CERT_FILE": str(place.home / "ca.pem")}
            await check(place, url, trust)
            await tail(place, url, trust)
            await metrics_want_the_token(server)


async def check(place: Place, url: Mapping[str, str], trust: Mapping[str, str]) -> None:
    """Run the page's check: nothing fails, and nothing is a warning that the page does not name."""
    script = place.local(commands("odin-ws check"), **url)
    printed = await place.run(script.replace("--url", "--json --url"), **trust)
    findings = json.loads(printed)["findings"]
    outcomes = {finding["check"]: finding["outcome"] for finding in findings}
    assert "failed" not in outcomes.values(), printed
    warned = {name for name, outcome in outcomes.items() if outcome == "warning"}
    # Descriptors and cores are this machine's.
    assert warned <= {"Kafka retention", "file descriptors", "cores", "memory"}, printed
    assert outcomes["Kafka topic odin.trades"] == outcomes["service close"] == "ok"
    assert outcomes["service certificate"] == outcomes["authentication"] == "ok"


async def tail(place: Place, url: Mapping[str, str], trust: Mapping[str, str]) -> None:
    """Run the page's subscriber while the administrator publishes: it gets its messages."""
    script = place.local(commands("odin-ws tail").replace("--count 3", "--json --count 3"), **url)
    publish = commands("topics create").splitlines()[:2]
    publish.append(f"KAFKA_BROKERS={place.kafka} odin-ws publish --rate 100")
    printed: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.run, place.local("\n".join(publish)))
        printed += (await place.run(script, **trust)).splitlines()
        nursery.cancel_scope.cancel()
    messages = [json.loads(line) for line in printed if line.startswith("{")]
    assert len(messages) == 3, printed
    assert all(message["channel"].endswith(".trade") for message in messages)


async def metrics_want_the_token(server: Server) -> None:
    """Prometheus gets its page with the token that the page gives it, and not without."""
    url = f"http://{LOOPBACK}:{server.ops_port}/metrics"
    async with plain_client(STOP_SECONDS) as client:
        assert (await client.get(url)).status_code == 401
        response = await client.get(url, headers={"Authorization": "Bearer 0123456789abcdef"})
    assert response.status_code == 200
    assert "ws_connections_active" in response.text


def test_prometheus_takes_the_file(tmp_path: Path) -> None:
    """`promtool` finds no fault in it and the rules."""
    promtool = program("promtool")
    (tmp_path / "odin-ws-token").write_text("0123456789abcdef", "utf-8")
    shutil.copy(ROOT / "deploy" / "prometheus" / "rules.yml", tmp_path)
    text = change(
        file("/etc/prometheus/prometheus.yml"), {"/etc/prometheus/odin": f"{tmp_path}/odin"}
    )
    (tmp_path / "prometheus.yml").write_text(text, "utf-8")
    done = trio.run(run_quietly, [promtool, "check", "config", str(tmp_path / "prometheus.yml")])
    assert "SUCCESS" in done


@pytest.mark.skipif(find_program("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_takes_the_drop_in(tmp_path: Path) -> None:
    """The shipped unit with the page's file has no name that systemd does not know."""
    unit = (ROOT / "deploy" / "odin-ws.service").read_text("utf-8")
    unit = unit.replace("/opt/odin-ws/bin/odin-ws", str(Path(sys.executable).with_name("odin-ws")))
    path = tmp_path / "odin-ws.service"
    path.write_text(unit, "utf-8")
    folder = tmp_path / "odin-ws.service.d"
    folder.mkdir()
    name = "/etc/systemd/system/odin-ws.service.d/files.conf"
    (folder / "files.conf").write_text(file(name), "utf-8")
    assert not trio.run(run_quietly, ["systemd-analyze", "verify", str(path)])


async def run_quietly(command: list[str]) -> str:
    """Run a program, which succeeds; returns what it prints."""
    done = await trio.run_process(command, capture_stdout=True, stderr=STDOUT, check=False)
    assert done.returncode == 0, done.stdout.decode()
    return done.stdout.decode()


def test_its_size_follows_the_formula() -> None:
    """Processes, cores and network are those of docs/sizing.md; memory has TLS and the history."""
    subscribers, _, writes, cores, processes, _, network = row(50_000, 2)
    for shown in (f"50,000 x 2 = {writes} per second", f"x 6 = {cores}", f"**{processes}**"):
        assert shown in PAGE
    assert f"| {network.replace(',', '')} in all" in PAGE
    assert int(subscribers.replace(",", "")) == 50_000
    history = 1000 * 60 * (2 * 330 + 900)
    assert f"= {history / 1e6:.0f} MB" in PAGE
    memory = 60e6 + (14e3 + 19e3) * 50_000 / 5 + 94e6 + 33554432
    assert f"= {memory / 1e6:.0f} MB" in PAGE
    assert f"WS_HISTORY_BYTES={round(history, -6)}" in PAGE
