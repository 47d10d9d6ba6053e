"""Probes on the subscribers' port: /healthz and / say whether to send clients, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from odin_ws.kafka.source_status import SourceState
from odin_ws.lifecycle import Lifecycle
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import metric
from tests.scenarios.wire import RawClient, request


def probe(path: str = "/healthz", method: str = "GET", version: str = "1.1") -> bytes:
    """A load balancer's request."""
    host = "Host: test\r\n" if version == "1.1" else ""
    return f"{method} {path} HTTP/{version}\r\n{host}\r\n".encode()


async def response(scenario: Scenario, data: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and content of the answer; the server ends the stream."""
    client = await RawClient.dial(scenario, data)
    status, *fields = (await client.head()).decode("ascii").split("\r\n")
    return status, dict(field.split(": ", 1) for field in fields), await client.rest_bytes()


@pytest.mark.parametrize("path", ["/healthz", "/"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_ready_server_answers_a_probe_with_200(
    odin_scenario: Scenario, path: str, version: str
) -> None:
    """One word; also to HTTP/1.0 without a Host, as simple load balancers send it."""
    status, headers, content = await response(odin_scenario, probe(path, version=version))
    assert (status, content) == ("HTTP/1.1 200 OK", b"ok\n")
    assert headers == {
        "Content-Type": "text/plain; charset=us-ascii",
        "Content-Length": "3",
        "Connection": "close",
        "Cache-Control": "no-store",
    }


async def test_head_is_answered_without_content(odin_scenario: Scenario) -> None:
    """Its headers are those of GET."""
    found = await response(odin_scenario, probe())
    assert await response(odin_scenario, probe(method="HEAD")) == (*found[:2], b"")


@pytest.mark.odin_settings(ws_drain_delay_seconds=10)
async def test_a_draining_server_answers_a_probe_with_503(odin_scenario: Scenario) -> None:
    """While it still accepts connections, and so before a load balancer finds the port closed."""
    odin_scenario.stop()
    await trio.sleep(1)
    status, _, content = await response(odin_scenario, probe())
    assert (status, content) == ("HTTP/1.1 503 Service Unavailable", b"not ready\n")


async def test_readiness_is_that_of_the_ops_port(
    odin_scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has not read Kafka up to its end is not ready; one that loses Kafka stays."""
    odin_scenario.service.source_status.transition(SourceState.STALLED, "no broker")
    assert (await response(odin_scenario, probe()))[0].endswith("200 OK")
    monkeypatch.setattr(odin_scenario.service, "lifecycle", Lifecycle())
    assert (await response(odin_scenario, probe()))[0].endswith("503 Service Unavailable")


@pytest.mark.odin_settings(ws_max_connections=1, ws_auth="none")
async def test_a_full_server_answers_probes(odin_scenario: Scenario) -> None:
    """It is ready: its subscribers are served, and a probe takes no place."""
    await odin_scenario.connect()
    assert (await response(odin_scenario, probe()))[0].endswith("200 OK")


async def test_a_probe_is_no_rejected_connection(odin_scenario: Scenario) -> None:
    """It has a counter of its own."""
    for path in "/healthz", "/":
        await response(odin_scenario, probe(path))
    server = odin_scenario.service.server
    assert server.admission.rejections == Counter()
    assert (server.stats.opened, server.stats.errors) == (0, 0)
    assert await metric(odin_scenario, "ws_http_requests_total", resource="probe") == 2


@pytest.mark.parametrize(
    ("data", "status", "label"),
    [
        (probe(method="POST"), 405, "bad_method"),
        (probe(method="OPTIONS"), 405, "bad_method"),
        (probe().replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n{}"), 400, "bad_request"),
        (probe("/healthz/"), 404, "not_found"),
        (probe("/healthz", version="2.0"), 400, "bad_request"),
    ],
)
async def test_other_method_or_path_than_a_probe_is_rejected(
    odin_scenario: Scenario, data: bytes, status: int, label: str
) -> None:
    """As any other request that is not taken here."""
    assert (await response(odin_scenario, data))[0].split()[1] == str(status)
    assert odin_scenario.service.server.admission.rejections == Counter({label: 1})


async def test_bytes_behind_a_probe_are_no_second_request(odin_scenario: Scenario) -> None:
    """One answer, then the end."""
    client = await RawClient.dial(odin_scenario, probe() + probe() + request())
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert await client.rest_bytes() == b"ok\n"
