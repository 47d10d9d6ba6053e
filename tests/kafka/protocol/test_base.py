"""A request has the highest version that both sides support."""

from __future__ import annotations

import attrs
import pytest

from odin_ws.kafka.protocol import UnsupportedVersion
from tests.kafka.protocol.golden import FETCH, GOLDEN, KEYS, REQUESTS, TOPIC_ID, TRADES


@pytest.mark.parametrize("name", REQUESTS)
def test_highest_common_version_is_chosen(name: str) -> None:
    """Whatever else the broker supports."""
    ours = [one.version for one in GOLDEN if one.name == name]
    request, key = REQUESTS[name], KEYS[name]
    for highest in ours:
        assert request.encode({key: (0, highest)}).api_version == highest
    assert request.encode({key: (0, 99)}).api_version == ours[-1]
    assert request.encode({key: (ours[-1], 99), 99: (0, 0)}).api_version == ours[-1]


@pytest.mark.parametrize("name", REQUESTS)
def test_request_without_a_common_version_names_both_ranges(name: str) -> None:
    """An older broker, a newer one, and one without the request."""
    ours = [one.version for one in GOLDEN if one.name == name]
    request, key = REQUESTS[name], KEYS[name]
    for versions, known in (
        ({key: (98, 99)}, "98 to 99"),
        ({key: (-2, -1)}, "-2 to -1"),
        ({}, "none"),
        ({key: (5, 4)}, "none"),
    ):
        with pytest.raises(UnsupportedVersion) as unsupported:
            request.encode(versions)
        assert str(unsupported.value) == (
            f"the broker supports versions {known} of {name} requests; "
            f"odin-ws sends {ours[0]} to {ours[-1]}"
        )


@pytest.mark.parametrize(
    ("ids", "version"),
    [
        ({TRADES: TOPIC_ID}, 13),
        ({TRADES: None}, 12),
        ({}, 12),
        ({TRADES: TOPIC_ID, "odin.news": None}, 12),
    ],
)
def test_fetch_without_all_topic_ids_stays_at_version_12(
    ids: dict[str, str | None], version: int
) -> None:
    """From version 13 on a fetch identifies topics by id only."""
    request = attrs.evolve(FETCH, topic_ids=ids)
    assert request.encode({1: (4, 17)}).api_version == version
    with pytest.raises(UnsupportedVersion, match="versions 13 to 17"):
        attrs.evolve(request, topic_ids={TRADES: None}).encode({1: (13, 17)})
