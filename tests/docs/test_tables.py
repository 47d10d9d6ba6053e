"""Tables in the docs match the code; a failing test prints the right table."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from odin_ws.assembly import Upstream, build
from odin_ws.canary.steps import Step
from odin_ws.catalogue import default_catalogue
from odin_ws.cli import main
from odin_ws.connection.disconnect_reasons import DisconnectReason
from odin_ws.history.history import retained_bytes
from odin_ws.history.record_decoder import InvalidRecord
from odin_ws.listener.certificate import Certificate
from odin_ws.ops.metrics import metrics_registry
from odin_ws.ops.stats import OpsStats
from odin_ws.protocol.errors import ErrorCode
from odin_ws.protocol.selection import NAMES
from odin_ws.resume import LossReason
from odin_ws.service import Service
from odin_ws.settings import Settings, declared_settings
from odin_ws.settings.former_names import FORMER_NAMES
from odin_ws.testing.memory_log import MemoryLog, MemorySource
from odin_ws.testing.memory_log_reader import MemoryLogReader
from odin_ws.workers.child import Child
from odin_ws.workers.ops_app import worker_families
from odin_ws.workers.supervisor import Supervisor
from tests.docs.pages import ROOT, as_table, cell, page, pages, read_table
from tests.docs.parsing import command_fields, commands
from tests.factories import message
from tests.listener.certificates import Authority

SETTINGS = {setting.name: setting for _, setting in declared_settings()}


@pytest.fixture
async def metrics(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Type and help of every metric, by its name with its labels, as docs write it."""
    return all_metrics(tmp_path)


def all_metrics(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Type and help of every metric of a server without workers, by name with labels."""
    authority = Authority(tmp_path)
    registry = _registry(Certificate(authority.chain, authority.key))
    return {name: (kind, text) for name, kind, text in _metrics(registry.collect())}


def test_settings() -> None:
    """docs/settings.md lists every setting as it is declared, in the same order."""
    check(
        "docs/settings.md",
        "settings",
        [
            [
                f"`{setting.name}`",
                _code(setting.default),
                setting.unit,
                cell(setting.allowed),
                cell(setting.help),
            ]
            for setting in SETTINGS.values()
        ],
    )


def _present(path: Path) -> str:
    """A page without its lists of former names."""
    marked = r"(?s)<!-- former names -->.*?<!-- /former names -->"
    return re.sub(marked, "", path.read_text("utf-8"))


def test_former_settings() -> None:
    """docs/settings.md lists every former name of a setting."""
    rows = [[f"`{former}`", f"`{now}`"] for former, now in FORMER_NAMES.items()]
    check("docs/settings.md", "former settings", rows)


def test_readme_settings_have_their_defaults() -> None:
    """The README's settings exist, with the defaults it gives."""
    rows = read_table(page("README.md"), "settings")
    assert rows
    for name, default, *_ in rows:
        assert default == _code(SETTINGS[name.strip("`")].default)


def test_exit_codes() -> None:
    """docs/exit-codes.md has each command, in the order of `odin-ws --help`."""
    rows = read_table(page("docs/exit-codes.md"), "exit codes")
    listed = main.list_commands(click.Context(main))
    assert [row[0] for row in rows] == [f"`{name}`" for name in listed]


def test_closes() -> None:
    """docs/protocol.md has the closing table."""
    check(
        "docs/protocol.md",
        "closes",
        [
            [str(one.code), f"`{one.label}`", one.by, cell(one.text), cell(one.advice)]
            for one in sorted((close.value for close in DisconnectReason), key=lambda one: one.code)
        ],
    )


def test_topics() -> None:
    """docs/protocol.md has the catalogue's topics, categories and event types."""
    check(
        "docs/protocol.md",
        "topics",
        [
            [f"`{topic.name}`", f"`{topic.category}`", " ".join(topic.events)]
            for topic in default_catalogue().topics.values()
        ],
    )


def test_bundles() -> None:
    """docs/protocol.md has the catalogue's bundles."""
    check(
        "docs/protocol.md",
        "bundles",
        [[f"`{name}`", " ".join(names)] for name, names in default_catalogue().bundles.items()],
    )


def test_error_codes() -> None:
    """docs/protocol.md explains each error code, and no other, in the order of the code."""
    check_keys("docs/protocol.md", "errors", {code: ["", ""] for code in ErrorCode})


def test_reasons_to_skip_a_record() -> None:
    """docs/protocol.md explains each reason, and no other."""
    check_keys("docs/protocol.md", "unreadable", {reason: [""] for reason in InvalidRecord})


async def test_metrics(metrics: dict[str, tuple[str, str]]) -> None:
    """docs/monitoring.md explains each metric, and no other, with its type and labels."""
    check_keys("docs/monitoring.md", "metrics", {name: [*two] for name, two in metrics.items()})
    rows = read_table(page("docs/monitoring.md"), "metrics")
    assert [row[1] for row in rows] == [kind for kind, _ in metrics.values()]


def test_worker_metrics() -> None:
    """docs/monitoring.md explains the additional metrics of several workers."""
    expected = {name: [kind, text] for name, kind, text in _worker_metrics()}
    check_keys("docs/monitoring.md", "worker metrics", expected)
    rows = read_table(page("docs/monitoring.md"), "worker metrics")
    assert [row[1] for row in rows] == [kind for kind, _ in expected.values()]


async def test_metrics_named_on_any_page_exist(metrics: dict[str, tuple[str, str]]) -> None:
    """Every metric that a page names exists."""
    known = {
        name.partition("{")[0] for name in (*metrics, *(metric[0] for metric in _worker_metrics()))
    }
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "count", "sum")}
    known |= {field for field, _ in declared_settings()}
    named = {name for path in pages() for name in re.findall(r"\bws_[a-z_]+\b", _present(path))}
    assert named <= known


def test_settings_named_on_any_page_exist() -> None:
    """Every setting that a page names exists."""
    wrong_on_purpose = {
        "KAFKA_GROUP_ID",
        "WS_CORS_ORIGINS",
        "WS_AUTH_PORT",
        "WS_AUTH_SERVICE_HOST",
        "WS_FOO",
        "WS_MAX_CONNECTONS",
        "WS_PORT",
        "WS_TLS_CERT_FILE",
        "WS_TLS_MIN_VERSION",
    }
    known = SETTINGS.keys() | {setting.file_name for setting in SETTINGS.values()}
    for path in pages():
        named = set(re.findall(r"\b(?:WS|KAFKA|LOG)_[A-Z_]+\b", _present(path)))
        assert named - wrong_on_purpose <= known, path.relative_to(ROOT)


def test_history_per_memory() -> None:
    """docs/history.md says how many messages fit into memory, and how far back that reaches."""
    rows = []
    for size in (300, 1000, 4000):
        takes = retained_bytes(message("BTC", value=b"x" * size))
        fit = Settings().ws_history_bytes // takes
        times = [f"{fit / rate:.0f} s" for rate in (100, 1000)]
        rows.append([f"{size} bytes", f"{takes} bytes", f"{fit:,}", *times])
    check("docs/history.md", "retention", rows)


def test_reasons_of_losses() -> None:
    """docs/protocol.md explains each reason, in the order in which the server reports them."""
    check_keys("docs/protocol.md", "reasons", {reason: ["", ""] for reason in LossReason})


def test_commands() -> None:
    """docs/protocol.md lists each command with the fields of its data, and no other."""
    rows = read_table(page("docs/protocol.md"), "commands")
    assert [command for row in rows for command in _in_code(row[0])] == commands()
    for name, fields, _ in rows:
        (command,) = _in_code(name)
        expected = command_fields(command)
        if expected is not None:
            names = set(NAMES) if fields.startswith("names") else set()
            assert names | set(_in_code(fields)) == expected, command


def check(name: str, table: str, expected: Sequence[Sequence[str]]) -> None:
    """The table has exactly these rows."""
    found = read_table(page(name), table)
    if found != [list(row) for row in expected]:
        pytest.fail(f"{name}, table {table}; right is:\n\n{as_table(expected)}\n", pytrace=False)


def check_keys(name: str, table: str, expected: dict[str, list[str]]) -> None:
    """The table's first column has exactly these keys; the other columns are written by hand.

    The values of `expected` are placeholders for a new row.
    """
    found = {row[0]: row[1:] for row in read_table(page(name), table)}
    keys = [f"`{key}`" for key in expected]
    if list(found) != keys:
        right = [
            [key, *found.get(key, value)]
            for key, value in zip(keys, expected.values(), strict=True)
        ]
        pytest.fail(f"{name}, table {table}; right is:\n\n{as_table(right)}\n", pytrace=False)


def _in_code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _registry(certificate: Certificate) -> CollectorRegistry:
    """The metrics of a server whose every labelled metric has counted something."""
    catalogue = default_catalogue()
    log = MemoryLog(catalogue.topics)
    upstream = Upstream(MemorySource(log), MemoryLogReader(log))
    service: Service = build(Settings(), catalogue, upstream, certificate)
    service.hub.stats.received["odin.trades"] += 1
    service.hub.stats.invalid_records[InvalidRecord.NO_KEY] += 1
    service.server.admission.rejections["not_found"] += 1
    service.source_status.lag = {"odin.trades": 1}
    service.canary.tries = 1
    service.canary.seconds[Step.UPGRADE] = 0.002
    return metrics_registry(service, OpsStats())


def _worker_metrics() -> Iterator[tuple[str, str, str]]:
    """Metrics that the supervisor of one worker adds."""

    @asynccontextmanager
    async def no_worker(_number: int) -> AsyncIterator[Child]:
        raise NotImplementedError
        yield

    supervisor = Supervisor(1, no_worker, trio.Event(), 1)
    return _metrics(worker_families(supervisor, {1: True}))


def _metrics(families: Iterable[Metric]) -> Iterator[tuple[str, str, str]]:
    for family in families:
        if not family.name.startswith(("ws_", "odin_ws_")):
            continue
        labels = sorted(family.samples[0].labels.keys() - {"le"})
        name = family.name + "_total" * (family.type == "counter")
        yield name + f"{{{','.join(labels)}}}" * bool(labels), family.type, family.documentation
