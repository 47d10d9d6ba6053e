"""The results of filters that replays share."""

from __future__ import annotations

from typing import Any

import pytest

from odin_ws.protocol.filters import FilterCache, read_filter

LARGE = read_filter({"field": "a", "gte": 10})
SMALL = read_filter({"field": "a", "lt": 10})


def value(number: int, pad: int = 0) -> bytes:
    """A value of its own."""
    return b'{"a":%d,"pad":"%b"}' % (number, b"x" * pad)


def test_a_filter_is_evaluated_once_per_value() -> None:
    """For all who ask; another filter and another value have their own results."""
    cache, ten, nine = FilterCache(), value(10), value(9)
    for _ in range(5):
        assert cache.matches(LARGE, ten)
        assert not cache.matches(LARGE, nine)
        assert not cache.matches(SMALL, ten)
        assert cache.matches(SMALL, nine)
    assert cache.evaluations == 4


def test_a_value_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many filters look at it."""
    parsed: list[bytes] = []

    def load(text: bytes) -> Any:
        parsed.append(text)
        return {"a": 10}

    monkeypatch.setattr("odin_ws.protocol.filters.fields.load_json", load)
    cache, ten = FilterCache(), value(10)
    for limit in range(20):
        cache.matches(read_filter({"field": "a", "gt": limit}), ten)
    assert parsed == [ten]


@pytest.mark.parametrize(("bounds", "kept"), [({"max_values": 3}, 3), ({"max_bytes": 500}, 4)])
def test_the_oldest_values_are_forgotten(bounds: dict[str, int], kept: int) -> None:
    """By number and by bytes; a forgotten value is evaluated again, with the same result."""
    cache = FilterCache(**bounds)
    values = [value(number, pad=100) for number in range(10, 30)]
    for one in values:
        assert cache.matches(LARGE, one)
    assert len(cache) == kept
    assert cache.evaluations == 20
    assert cache.matches(LARGE, values[-1])
    assert cache.evaluations == 20
    assert cache.matches(LARGE, values[0])
    assert cache.evaluations == 21


def test_a_value_larger_than_the_cache_is_evaluated_all_the_same() -> None:
    """It is kept for no one."""
    cache = FilterCache(max_bytes=50)
    assert cache.matches(LARGE, value(10, pad=100))
    assert len(cache) == 0
    assert cache.matches(LARGE, value(10))
    assert len(cache) == 1
