"""Reads the log lines and texts of `src/` from its syntax trees, and those that pages quote."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.docs.pages import ROOT, page

__all__ = ["LEVELS", "logged", "quoted_log_lines", "quoted_texts", "texts"]

LEVELS = {"exception": "error"} | {name: name for name in ("debug", "info", "warning", "error")}

# Stands for the variable part of an f-string, and for `…` and numbers of a quote.
GAP = "\0"

_FENCE = re.compile(r"(?ms)^```.*?^```$")
_SPAN = re.compile(r"`([^`\n]+)`")
_SPANS = r"((?:`[^`\n]+`(?:, | and )?)+)"
_INTRODUCED = re.compile(
    rf"(?:[Ll]og lines?|(?<=[Tt]he )lines?|log says) {_SPANS}|"
    # A log line as a symptom, with its field beside it.
    rf"\| {_SPANS}[^|]*\| `\w+` in that line "
)
_EVENT = re.compile(r'"event": "([^"]+)"')


@cache
def logged() -> dict[str, str]:
    """The level of each log line by its event."""
    found: dict[str, str] = {}
    for tree in _trees():
        tables = dict(_assigned(tree))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            logger = node.func.value
            if not isinstance(logger, ast.Name) or logger.id not in {"log", "_log"}:
                continue
            level = LEVELS.get(node.func.attr)
            if level is not None:
                found |= dict.fromkeys(_events(node.args[0], tables), level)
    return found


def _events(argument: ast.expr, tables: dict[str, ast.expr]) -> list[str]:
    """The events that a logger call may have: a constant, or the values of a table."""
    match argument:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Subscript(value=ast.Name(id=name)) if isinstance(tables[name], ast.Dict):
            return [ast.literal_eval(value) for value in tables[name].values]  # type: ignore[attr-defined]
        case ast.Subscript(value=ast.Name(id=name)):
            # A comprehension: its f-string with a gap.
            return [_flat(tables[name].value)]  # type: ignore[attr-defined]
    raise AssertionError(f"an event that is neither a text nor of a table: {ast.unparse(argument)}")


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            yield node.target.id, node.value


@cache
def texts() -> frozenset[str]:
    """Each string and f-string of `src/`, except docstrings; GAP for the variable parts."""
    found = set()
    for tree in _trees():
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.add(_flat(node))
            elif isinstance(node, ast.Constant) and id(node) not in docstrings:
                found.add(str(node.value))
    return frozenset(found)


def _flat(node: ast.expr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in parts)


@cache
def _trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text("utf-8")) for path in (ROOT / "src").rglob("*.py"))


def quoted_log_lines(name: str) -> set[str]:
    """The log lines that a page quotes: after "log line", "the line", "the log says", as JSON."""
    text = page(name)
    found = set(_EVENT.findall(text))
    for spans in _INTRODUCED.findall(_FENCE.sub("", text)):
        found |= {span for group in spans for span in _SPAN.findall(group)}
    return found


def quoted_texts(name: str) -> set[str]:
    """Everything of more than one word that a page shows as code, except in blocks."""
    return {match for match in _SPAN.findall(_FENCE.sub("", page(name))) if " " in match}
