"""A short form of `make fuzz`, and all inputs that it ever found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import CORPUS, kept, seeds
from tests.fuzz.mutations import inputs
from tests.fuzz.targets import TARGETS

# A conversation takes 50 ms, an input of another target less than one.
EXAMPLES = {"session": 60, "caller": 40, "resume": 40, "events": 40}


@pytest.mark.parametrize("target", TARGETS)
def test_targets_accept_their_seeds(target: str) -> None:
    """No target fails on its seeds."""
    for data in seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("path", [path for target in TARGETS for path in kept(target)], ids=str)
def test_target_accepts_an_input_found_by_fuzzing(path: Path) -> None:
    """No input that fuzzing found fails again."""
    TARGETS[path.parent.name](path.read_bytes())


def test_every_folder_of_the_corpus_has_a_target() -> None:
    """Each folder of the corpus belongs to a target."""
    assert {path.name for path in CORPUS.iterdir()} <= TARGETS.keys()


@pytest.mark.parametrize("target", TARGETS)
def test_targets_accept_mutated_inputs(target: str) -> None:
    """See the targets for what must hold."""

    @settings(
        max_examples=EXAMPLES.get(target, 300),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        TARGETS[target](data.draw(inputs(target)))

    check()
