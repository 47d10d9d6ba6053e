"""The alert rules: promtool accepts and tests them, and each has its entry in docs/alerts.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.debian import program
from tests.deploy.queries import ROOT, RULES, Query, alerts, faults
from tests.docs.pages import anchors

TESTS = RULES.with_name("rules_test.yml")
PAGE = ROOT / "docs" / "alerts.md"

PARTS = ("**Meaning.**", "**First look.**", "**What to do.**")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; skip the test without it."""
    command = [program("promtool"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_promtool_accepts_the_rules() -> None:
    """Prometheus accepts every expression and every field."""
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_in_their_cases_only() -> None:
    """Each alert fires in its case, and is silent in a similar one."""
    done = promtool("test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_tests() -> None:
    """Each alert has a case in which it fires and one in which it is silent."""
    tests = yaml.safe_load(TESTS.read_text("utf-8"))["tests"]
    fire = {test["name"].partition(" ")[0] for test in tests if test["name"].endswith(" fires")}
    silent = {test["name"].partition(" ")[0] for test in tests if " is silent: " in test["name"]}
    assert fire == silent == {rule["alert"] for rule in alerts()}


def test_templates_of_texts_can_be_rendered(tmp_path: Path) -> None:
    """No template in summary or description fails when the alert fires."""
    rules = tmp_path / RULES.name
    rules.write_text(RULES.read_text("utf-8"), "utf-8")
    given = yaml.safe_load(TESTS.read_text("utf-8"))
    given["tests"] = [
        _without_alerts(test) for test in given["tests"] if test["name"].endswith(" fires")
    ]
    test = tmp_path / TESTS.name
    test.write_text(yaml.safe_dump(given), "utf-8")
    output = promtool("test", "rules", test)
    # promtool prints the alerts with their texts, because none was expected.
    reported = output.stdout + output.stderr
    assert len(re.findall(r"summary=", reported)) == len(alerts())
    assert "error expanding" not in reported
    assert "<no value>" not in reported


def _without_alerts(test: dict[str, Any]) -> dict[str, Any]:
    """Return the same test with no alert expected."""
    (expected,) = test.pop("promql_expr_test")
    name = test["name"].partition(" ")[0]
    test["alert_rule_test"] = [{"eval_time": expected["eval_time"], "alertname": name}]
    return test


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_a_runbook(rule: dict[str, Any]) -> None:
    """docs/alerts.md has its heading, with the meaning, where to look and what to do."""
    assert rule["labels"]["severity"] in ("critical", "warning")
    name = rule["alert"]
    assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
    text = PAGE.read_text("utf-8")
    assert name.lower() in anchors(text)
    entry = re.split(r"(?m)^##+ ", text.partition(f"## {name}\n")[2])[0]
    assert [part for part in PARTS if part not in entry] == []


def test_every_runbook_has_an_alert() -> None:
    """Each runbook belongs to an existing alert, and the page's table lists all of them."""
    text = PAGE.read_text("utf-8")
    names = [rule["alert"] for rule in alerts()]
    assert re.findall(r"(?m)^##+ (OdinWs\w+)$", text) == names
    assert re.findall(r"(?m)^\| \[(OdinWs\w+)\]", text) == names


def test_query_with_unknown_names_is_reported() -> None:
    """Each unknown series, label, value or legend is one fault."""
    series = {"ws_a_total": {"reason": {"x"}}}
    wrong = {
        "ws_b_total": "no series ws_b_total",
        'ws_a_total{code="x"}': "ws_a_total has no label code",
        'ws_a_total{reason=~"x|y"}': "reason is never y",
        "sum by (topic) (ws_a_total)": "no label topic to aggregate by",
    }
    for expr, fault in wrong.items():
        (found,) = faults(Query("here", expr), series)
        assert fault in found
    (found,) = faults(Query("here", "sum(ws_a_total)", frozenset({"le"})), series)
    assert "no label le in what it returns" in found


def test_dashboard_is_current() -> None:
    """deploy/grafana/odin-ws.json is what tools/dashboard.py writes."""
    code = "from tools import dashboard; print(dashboard.text(), end='')"
    made = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    file = ROOT / "deploy" / "grafana" / "odin-ws.json"
    assert file.read_text("utf-8") == made, "run python -m tools.dashboard"
    assert {panel["title"] for panel in json.loads(made)["panels"] if panel["type"] == "row"} == {
        "Subscribers",
        "Delivery",
        "Kafka",
        "Resume",
        "Resources",
        "Rejected",
    }
