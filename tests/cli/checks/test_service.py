"""URLs of services, and what to do about each failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from odin_ws.canary.steps import Step, StepFailed
from odin_ws.cli.checks.findings import Outcome
from odin_ws.cli.checks.service import (
    InvalidUrl,
    ServiceAddress,
    action,
    check_authority,
    parse_url,
)
from tests.cli.checks.found import found, only
from tests.listener.certificates import Authority


@pytest.mark.parametrize(
    ("text", "address", "host"),
    [
        ("ws://h:3002/ws", ServiceAddress("h", 3002, "/ws", tls=False), "h:3002"),
        ("ws://h", ServiceAddress("h", 80, "/ws", tls=False), "h"),
        ("wss://h/ws?v=1", ServiceAddress("h", 443, "/ws?v=1", tls=True), "h"),
        ("ws://[::1]:3002/a", ServiceAddress("::1", 3002, "/a", tls=False), "[::1]:3002"),
    ],
)
def test_a_url_is_an_address(text: str, address: ServiceAddress, host: str) -> None:
    """The scheme has a usual port, which requests leave out; the path is /ws by default."""
    assert parse_url(text) == address
    assert address.host_header == host


@pytest.mark.parametrize(
    "text", ["ws://h/wü", "ws://h/w s", "ws://h/w\ns", "ws://a..b/ws", f"ws://{'a' * 70}.org/ws"]
)
def test_url_that_no_request_can_have_is_rejected(text: str) -> None:
    """In words, before a connection is opened."""
    with pytest.raises(InvalidUrl, match=r"percent-encoded|is not a host name"):
        parse_url(text)


FAILURES = [
    (Step.CONNECT, "Connection refused", 0, "/health/live"),
    (Step.TLS, "certificate has expired", 0, "renew"),
    (Step.TLS, "certificate is not yet valid", 0, "clocks"),
    (Step.TLS, "IP address mismatch, certificate is not valid for '::1'.", 0, "by a name"),
    (Step.TLS, "Hostname mismatch, certificate is not valid for 'a.b'.", 0, "by a name"),
    (Step.TLS, "unable to get local issuer certificate", 0, "SSL_CERT_FILE"),
    (Step.TLS, "self-signed certificate", 0, "SSL_CERT_FILE"),
    (Step.TLS, "the port does not speak TLS (wrong version number)", 0, "ws://"),
    (Step.UPGRADE, "HTTP 400 this port requires TLS", 400, "wss://"),
    (Step.UPGRADE, "HTTP 401 a token is required", 401, "ODIN_WS_TOKEN"),
    (Step.UPGRADE, "HTTP 404 not found", 404, "/ws"),
    (Step.UPGRADE, "HTTP 429 connect_rate", 429, "WS_TRUSTED_PROXIES"),
    (Step.UPGRADE, "HTTP 502 Bad Gateway", 502, "proxy"),
    (Step.UPGRADE, "HTTP 503 the server is restarting", 503, "wait"),
    (Step.UPGRADE, "HTTP 503 all 3 connections are in use", 503, "no room"),
    (Step.UPGRADE, "HTTP 200", 200, "another server"),
    (Step.UPGRADE, "the answer is not HTTP: SSH-2.0", 0, "another server"),
    (Step.SUBSCRIBE, "FORBIDDEN: not granted", 0, "--channel"),
    (Step.SUBSCRIBE, "the answer is not a JSON object: 'hello'", 0, "another WebSocket server"),
    (Step.HEARTBEAT, "not done after 4.0 s", 0, "/health"),
    (Step.CLOSE, "the connection was closed", 0, "proxies"),
]


@pytest.mark.parametrize(("step", "reason", "status", "words"), FAILURES)
def test_each_failure_has_its_own_action(step: Step, reason: str, status: int, words: str) -> None:
    """One line about this failure, not a list of all that might be wrong."""
    assert words in action(StepFailed(step, reason, status))


def test_ignored_authority_file_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL says nothing about an SSL_CERT_FILE that it cannot read."""
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    for path, words in ((tmp_path / "none.pem", "No such file"), (empty, "no certificate in PEM")):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert words in only(found(check_authority), "service authority", Outcome.WARNING).text
    Authority(tmp_path).write_ca(empty)
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    assert found(check_authority) == []


@pytest.mark.parametrize(
    "text",
    ["", "h:3002", "http://h/ws", "ws://", "ws://h:x/ws", "ws://h:0/", "ws://u:p@h/", "ws://["],
)
def test_any_other_text_is_rejected(text: str) -> None:
    """A password in a URL would be seen by other users."""
    with pytest.raises(InvalidUrl, match="must be ws://"):
        parse_url(text)
