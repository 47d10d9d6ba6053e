"""A short look at what `make fuzz` looks at for long, and at all that it ever found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import CORPUS, kept, seeds
from tests.fuzz.mutations import inputs
from tests.fuzz.targets import TARGETS

# A conversation takes 50 ms, the others less than one.
EXAMPLES = {"session": 60, "caller": 40, "resume": 40}


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_right_is_taken(target: str) -> None:
    """Fuzzing begins with inputs on which no target fails."""
    for data in seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("path", [path for target in TARGETS for path in kept(target)], ids=str)
def test_what_was_found_is_tried_again(path: Path) -> None:
    """No input that fuzzing has found once fails again."""
    TARGETS[path.parent.name](path.read_bytes())


def test_all_that_is_kept_is_tried() -> None:
    """Each folder of the corpus is one of a target."""
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_anything_is_answered_as_promised(target: str) -> None:
    """Whatever comes: see the targets for what holds then."""

    @settings(
        max_examples=EXAMPLES.get(target, 300),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        TARGETS[target](data.draw(inputs(target)))

    check()
