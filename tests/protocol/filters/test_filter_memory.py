"""The estimate of a filter's memory is not below what the filter takes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest

from odin_ws.protocol.filters import read_filter

COUNT = 20

SHAPES: dict[str, Any] = {
    "short": {"field": "a", "gt": 1},
    "strings": {"field": "a", "in": [f"{number:0200}x" for number in range(64)]},
    "wide strings": {"field": "a", "in": ["\N{GRINNING FACE}" * 99 + str(n) for n in range(64)]},
    "numbers": {"field": "a", "in": [f"{number}.5" for number in range(64)]},
    "long names": {"or": [{"field": f"{k}.{'f.' * 14}{'x' * 200}", "eq": k} for k in range(16)]},
    "deep": {"or": [{"not": {"not": {"field": f"a{k}", "gt": k + 0.5}}} for k in range(16)]},
}


@pytest.mark.parametrize("tree", SHAPES.values(), ids=SHAPES.keys())
def test_memory_of_a_filter_is_not_underestimated(tree: Any) -> None:
    """Nor overestimated by more than a factor of four."""
    text = orjson.dumps(tree)
    read_filter(orjson.loads(text))
    tracemalloc.start()
    filters = [read_filter(orjson.loads(text)) for _ in range(COUNT)]
    taken = tracemalloc.get_traced_memory()[0] / COUNT
    tracemalloc.stop()
    assert taken <= filters[0].memory <= 4 * taken
