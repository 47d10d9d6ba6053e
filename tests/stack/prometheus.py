"""A Prometheus that scrapes the instances and evaluates the alert rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import httpx
import trio
import yaml

from odin_ws.testing.ports import LOOPBACK, free_ports
from odin_ws.testing.processes import ChildProcess
from tests.deploy.debian import find_program
from tests.integration.running_source import until
from tests.plain_http import plain_client

__all__ = ["Prometheus", "PrometheusFailed", "Scraping", "find_prometheus", "run_prometheus"]

READY_SECONDS: Final = 30
STOP_SECONDS: Final = 5
ANSWER_SECONDS: Final = 5


def find_prometheus() -> str | None:
    """Return the path of the program, or None if it is not installed."""
    return find_program("prometheus")


class PrometheusFailed(RuntimeError):
    """Prometheus did not start, or rejected a query; the message says why."""


class Prometheus:
    """A running Prometheus. `port`: its page and its API; `client`: what asks it."""

    def __init__(self, port: int, client: httpx.AsyncClient) -> None:
        self.port: Final = port
        self._client = client

    async def ready(self) -> bool:
        """Whether it is ready."""
        try:
            return (await self._client.get("/-/ready")).is_success
        except httpx.TransportError:
            return False

    async def firing(self, alert: str) -> set[str]:
        """The instances for which an alert fires."""
        response = await self._get("/api/v1/alerts")
        return {
            one["labels"].get("instance", "")
            for one in response["alerts"]
            if one["labels"]["alertname"] == alert and one["state"] == "firing"
        }

    async def alerts(self) -> list[dict[str, Any]]:
        """Every alert that is pending or fires, with labels and annotations."""
        found: list[dict[str, Any]] = (await self._get("/api/v1/alerts"))["alerts"]
        return found

    async def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the present value of an expression. Raises PrometheusFailed if it is rejected."""
        found: list[dict[str, Any]] = (await self._get("/api/v1/query", query=expr))["result"]
        return found

    async def _get(self, path: str, **params: str) -> dict[str, Any]:
        response = (await self._client.get(path, params=params)).json()
        if response["status"] != "success":
            raise PrometheusFailed(f"{path} {params}: {response['error']}")
        found: dict[str, Any] = response["data"]
        return found


@attrs.frozen
class Scraping:
    """The configuration of a Prometheus.

    `targets`: addresses by job; `rules`: the text of a file of rules; `interval`: seconds between
    two scrapes, and between two evaluations.
    """

    targets: Mapping[str, list[str]]
    rules: str
    interval: float

    def write(self, home: Path) -> Path:
        """Write the configuration into a folder; return the file."""
        (home / "rules.yml").write_text(self.rules, "utf-8")
        every = f"{round(self.interval * 1000)}ms"
        configuration = {
            "global": {
                "scrape_interval": every,
                "scrape_timeout": every,
                "evaluation_interval": every,
            },
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(addresses)}]}
                for job, addresses in self.targets.items()
            ],
        }
        file = home / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration), "utf-8")
        return file


@asynccontextmanager
async def run_prometheus(
    program: str, directory: Path, scraping: Scraping, port: int | None = None
) -> AsyncIterator[Prometheus]:
    """Run Prometheus for the length of the block; `port`: None for any free one."""
    home = directory / "prometheus"
    home.mkdir()
    port = port or free_ports(1)[0]
    command = [
        program,
        f"--config.file={scraping.write(home)}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--storage.tsdb.retention.time=1d",
    ]
    process = ChildProcess(command, home / "log")
    # One for all questions: making one takes longer than an answer.
    client = plain_client(ANSWER_SECONDS, base_url=f"http://{LOOPBACK}:{port}")
    prometheus = Prometheus(port, client)

    async def up() -> bool:
        if not process.running:
            raise PrometheusFailed(f"Prometheus ended:\n{process.tail()}")
        return await prometheus.ready()

    try:
        await process.start()
        async with client:
            await until(up, READY_SECONDS)
            yield prometheus
    finally:
        with trio.CancelScope(shield=True):  # bounded by STOP_SECONDS
            await process.end(STOP_SECONDS)
