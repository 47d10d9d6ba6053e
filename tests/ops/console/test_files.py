"""The console's page and files: their types, tags, policy and checksums."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest

import odin_ws.ops.console
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.handshake.admission import CAPACITY_REJECTIONS
from odin_ws.handshake.authenticator import AUTH_REJECTIONS
from odin_ws.handshake.rate_limiter import RATE_LIMIT_REJECTIONS
from odin_ws.handshake.request import REQUEST_REJECTIONS
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.ops.console.files import CONSOLE_PATHS, content_security_policy
from odin_ws.ops.stats import OPS_REJECTIONS
from odin_ws.protocol.errors import ErrorCode
from odin_ws.testing.scenario import Scenario
from tests.scenarios.ops import get

STATIC = Path(odin_ws.ops.console.__file__).parent / "static"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def text(name: str) -> str:
    """Return the text of a file of the page."""
    return (STATIC / name).read_text("utf-8")


async def test_accept_header_selects_page_or_list(odin_scenario: Scenario) -> None:
    """`/` is the page for browsers and the list of pages for other clients."""
    page = await get(odin_scenario, "/", headers=HTML)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == text("index.html")
    assert (await get(odin_scenario, "/")).headers["content-type"].startswith("text/plain")


async def test_every_linked_file_is_served_with_its_type(odin_scenario: Scenario) -> None:
    """Links of the page and imports of the modules lead to files with the right type."""
    named = set(re.findall(r'(?:href|src)="(/[^"]+)"', text("index.html")))
    for module in STATIC.glob("*.js"):
        code = module.read_text("utf-8")
        imports = re.findall(r'^import .* from "\./(.*)";', code, re.MULTILINE)
        named |= {f"/console/{name}" for name in imports}
    assert named <= CONSOLE_PATHS
    for path in CONSOLE_PATHS:
        response = await get(odin_scenario, path)
        assert response.status_code == 200
        assert response.headers["x-content-type-options"] == "nosniff"
        kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        assert response.headers["content-type"].startswith(kinds[path.rpartition(".")[2]])


@pytest.mark.parametrize(
    "path", ["/console/index.html", "/console/", "/console/../files.py", "/console/vendor/x.js"]
)
async def test_unlisted_paths_are_404(odin_scenario: Scenario, path: str) -> None:
    """The path of a request never becomes a file name."""
    assert (await get(odin_scenario, path)).status_code == 404


async def test_known_tag_gets_304(odin_scenario: Scenario) -> None:
    """A changed file has another tag."""
    first = await get(odin_scenario, "/console/app.js")
    headers = {"If-None-Match": first.headers["etag"]}
    again = await get(odin_scenario, "/console/app.js", headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    other = await get(odin_scenario, "/console/dom.js", headers=headers)
    assert other.status_code == 200


async def test_page_may_load_own_files_only(odin_scenario: Scenario) -> None:
    """The policy allows no inline code, no frame, and only this host and its subscribers' port."""
    page = await get(odin_scenario, "/", headers=HTML)
    policy = page.headers["content-security-policy"]
    assert policy == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self' ws://localhost:* wss://localhost:*; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )


@pytest.mark.parametrize(
    ("host", "subscribers", "connect"),
    [
        ("localhost", "", "'self' {localhost}"),
        ("10.0.0.5", "10.0.0.6", "'self' {10.0.0.5} {10.0.0.6}"),
        ("::1", "", "'self' ws: wss:"),
        ("x; script-src *", "", "'self' ws: wss:"),
        ("", "", "'self'"),
    ],
)
def test_host_of_a_request_cannot_change_the_policy(
    host: str, subscribers: str, connect: str
) -> None:
    """The policy has a host only if that is a name or an IPv4 address."""
    policy = content_security_policy(host, subscribers)

    def ports(found: re.Match[str]) -> str:
        return " ".join(f"{scheme}://{found[1]}:*" for scheme in ("ws", "wss"))

    connect = re.sub(r"\{(.*?)\}", ports, connect)
    assert f"; connect-src {connect}; " in policy
    assert policy.count("script-src") == 1


def test_page_has_no_inline_code() -> None:
    """The policy would block it."""
    page = text("index.html")
    assert not re.search(r"<style|\bstyle=|\son[a-z]+=|javascript:", page)
    assert not re.search(r"<script(?![^>]* src=)", page)


def test_console_modules_load_nothing_from_other_hosts() -> None:
    """The modules name no other host, and neither parse text as HTML nor evaluate it."""
    for path in STATIC.glob("*"):
        if path.suffix in {".js", ".css", ".html"}:
            lines = path.read_text("utf-8").splitlines()
            code = "\n".join(line for line in lines if not re.match(r"\s*(//|\*)", line))
            found = set(re.findall(r"https?://[^\s\"'`)]+", code))
            assert not found, path.name
            parses = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|Function\("
            assert not re.search(parses, path.read_text("utf-8")), path.name


def test_vendored_files_are_those_of_the_release() -> None:
    """Their checksums equal the record, which names version, licence and archive."""
    record = tomllib.loads(text("vendor/uplot/vendored.toml"))
    assert (record["version"], record["licence"]) == ("1.6.32", "MIT")
    assert record["archive"]["integrity"].startswith("sha512-")
    folder = STATIC / "vendor" / "uplot"
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "vendored.toml"
    }
    assert found == record["sha256"]


def test_every_counted_reason_has_a_meaning() -> None:
    """The page explains each reason that the server counts, and no others."""
    source = text("reasons.js")
    body = source[source.index("= {") + 2 :].rstrip().removesuffix(";")
    as_json = re.sub(r"^(\s*)(\w+):", r'\1"\2":', body, flags=re.MULTILINE)
    meanings = json.loads(re.sub(r",(\s*})", r"\1", as_json))
    rejected = {*REQUEST_REJECTIONS, *AUTH_REJECTIONS, *RATE_LIMIT_REJECTIONS, *CAPACITY_REJECTIONS}
    assert meanings["rejected"].keys() == rejected
    assert meanings["ops"].keys() == set(OPS_REJECTIONS)
    assert meanings["closed"].keys() == {one.value.label for one in DisconnectReason}
    assert meanings["errors"].keys() == set(ErrorCode)
    assert meanings["skipped"].keys() == set(InvalidRecord)
