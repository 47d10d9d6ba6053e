"""Every PromQL query of the repository: the alert rules, the dashboard, the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import promql_parser
import yaml
from promql_parser import AggModifierType, MatchOp

from tests.docs.pages import blocks, pages

__all__ = ["ROOT", "RULES", "Query", "alerts", "dashboard_queries", "faults", "queries"]

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "odin-ws.json"

# Labels and series that Prometheus itself adds.
SCRAPED: Final = frozenset({"job", "instance"})
ADDED: Final[Mapping[str, frozenset[str]]] = {"up": SCRAPED, "ALERTS": SCRAPED}

# Values for Grafana's variables.
VARIABLES: Final = {"$__rate_interval": "5m", "$instance": ".*", "$topic": ".*"}

_LABEL_VALUES: Final = re.compile(r"label_values\((\w+), (\w+)\)")
_IN_LEGEND: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_IN_ANNOTATION: Final = re.compile(r"\$labels\.(\w+)")

Series = Mapping[str, Mapping[str, set[str]]]
"""The series of a server: the values of each label, by name."""


@attrs.frozen
class Query:
    """A query, its place, and the labels that its legend or its texts name."""

    where: str
    expr: str
    named: frozenset[str] = frozenset()


def alerts() -> list[dict[str, Any]]:
    """The alerts of deploy/prometheus/rules.yml."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[Query]:
    """All queries."""
    return [*_of_rules(), *dashboard_queries(), *_of_pages()]


def _of_rules() -> Iterator[Query]:
    for rule in alerts():
        texts = " ".join(rule["annotations"].values())
        yield Query(rule["alert"], rule["expr"], frozenset(_IN_ANNOTATION.findall(texts)))


def dashboard_queries() -> Iterator[Query]:
    """The queries of the dashboard's panels and variables, as Grafana would send them."""
    board = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            named = frozenset(_IN_LEGEND.findall(target["legendFormat"]))
            yield Query(panel["title"], _filled(target["expr"]), named)
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found = _LABEL_VALUES.fullmatch(variable["query"]["query"])
            assert found, variable["name"]
            yield Query(variable["name"], found[1], frozenset({found[2]}))


def _of_pages() -> Iterator[Query]:
    for path in pages():
        for block in blocks(path.read_text("utf-8"), "promql"):
            for text in re.sub(r"(?m)^#.*$", "", block.text).split("\n\n"):
                if text.strip():
                    yield Query(path.name, text.strip())


def _filled(expr: str) -> str:
    for variable, value in VARIABLES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def faults(query: Query, series: Series) -> list[str]:
    """Return one line for each name in a query that does not exist."""
    expression = promql_parser.parse(query.expr)
    found, labels = _check(expression, series)
    found += [f"no label {name} in what it returns" for name in query.named - labels]
    return [f"{query.where}: {fault}: {query.expr}" for fault in found]


def _check(node: Any, series: Series) -> tuple[list[str], frozenset[str]]:
    """Return the faults of an expression, and the labels of its result."""
    if isinstance(node, promql_parser.MatrixSelector):
        node = node.vector_selector
    match node:
        case promql_parser.VectorSelector():
            return _check_selector(node, series)
        case promql_parser.ParenExpr() | promql_parser.UnaryExpr() | promql_parser.SubqueryExpr():
            return _check(node.expr, series)
        case promql_parser.AggregateExpr():
            return _check_aggregate(node, series)
        case promql_parser.BinaryExpr():
            (left, ours), (right, theirs) = _check(node.lhs, series), _check(node.rhs, series)
            return left + right, ours | (frozenset() if ours else theirs)
        case promql_parser.Call():
            parts = [_check(argument, series) for argument in node.args]
            labels = frozenset[str]().union(*(labels for _, labels in parts))
            used_up = {"le"} if node.func.name == "histogram_quantile" else set()
            return [fault for faults, _ in parts for fault in faults], labels - used_up
        case _:
            return [], frozenset()


def _check_aggregate(node: Any, series: Series) -> tuple[list[str], frozenset[str]]:
    found, labels = _check(node.expr, series)
    if node.modifier is None:
        return found, frozenset()
    named = frozenset(node.modifier.labels)
    found += [f"no label {name} to aggregate by" for name in named - labels]
    return found, named if node.modifier.type == AggModifierType.By else labels - named


def _check_selector(node: Any, series: Series) -> tuple[list[str], frozenset[str]]:
    if node.name in ADDED:
        return [], ADDED[node.name]
    if node.name not in series:
        return [f"no series {node.name}"], SCRAPED
    values = series[node.name]
    found = []
    for matcher in node.matchers.matchers:
        if matcher.name in SCRAPED:
            continue
        if matcher.name not in values:
            found.append(f"{node.name} has no label {matcher.name}")
        else:
            there = values[matcher.name]
            found += [f"{matcher.name} is never {one}" for one in _named(matcher) - there]
    return found, SCRAPED | values.keys()


def _named(matcher: Any) -> set[str]:
    """Return the values that a matcher lists."""
    if matcher.op in (MatchOp.Equal, MatchOp.NotEqual):
        return {matcher.value}
    return set() if matcher.value == ".*" else set(matcher.value.split("|"))
