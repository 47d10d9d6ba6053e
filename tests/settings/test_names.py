"""Names of settings: what is meant for us and misspelt stops the start, others' are left alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.settings import Settings, SettingsError, declared_settings, load_settings
from tests.settings.problems import problem_of, problems_of

SETTINGS = {setting.name: (field, setting) for field, setting in declared_settings()}


def near_misses(name: str) -> Iterator[str]:
    """A name with one letter left out, doubled or replaced, or two letters swapped."""
    # Below four letters a LOG_… is anybody's; see the test of names that are not ours.
    start = len("LOG_") if name.startswith("LOG_") else 0
    for at in range(start, len(name)):
        yield name[:at] + name[at + 1 :]
        yield name[:at] + name[at] + name[at:]
        yield name[:at] + "Q" + name[at + 1 :]
        yield name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :]


FILE_NAMES = {setting.file_name for _, setting in SETTINGS.values() if setting.file_name}


# A short name is as near to others' names as to its misspelt self: those are only reported.
SHORT = {"WS_ADDR", "WS_AUTH", "WS_JWKS"}


@pytest.mark.parametrize("name", sorted((SETTINGS.keys() | FILE_NAMES) - SHORT))
def test_failing_26_a_misspelt_name_stops_the_start(name: str) -> None:
    """Any slip in any name, also that of a secret's file, is told with the name that is meant."""
    missed = sorted(set(near_misses(name)) - SETTINGS.keys() - FILE_NAMES)
    problems = problems_of(**dict.fromkeys(missed, "1"))
    assert problems == [f"{miss}: no such setting; {name} is meant" for miss in missed]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("KAFKA_GROUP_ID", "KAFKA_CONSUMER_GROUP"),
        ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BROKERS"),
        ("KAFKA_BROKER_LIST", "KAFKA_BROKERS"),
        ("KAFKA_BROKER", "KAFKA_BROKERS"),
        ("WS_KAFKA_BROKERS", "KAFKA_BROKERS"),
        ("WS_LOG_LEVEL", "LOG_LEVEL"),
        ("WS_LOG_FORMAT", "LOG_FORMAT"),
        ("WS_MAX_CONECTIONS", "WS_MAX_CONNECTIONS"),
        ("WS_ADR", "WS_ADDR"),
        ("KAKFA_BROKERS", "KAFKA_BROKERS"),
        ("ws_max_connections", "WS_MAX_CONNECTIONS"),
    ],
)
def test_failing_26_a_known_confusion_stops_the_start(name: str, meant: str) -> None:
    """What a deployment set in vain for the earlier server is told, whatever its value."""
    assert problem_of(**{name: "x"}) == f"{name}: no such setting; {meant} is meant"
    assert problem_of(**{name: ""}) == f"{name}: no such setting; {meant} is meant"


@pytest.mark.parametrize(
    "name",
    [
        # Kubernetes' links to services called `ws` and `kafka`
        "WS_SERVICE_HOST",
        "WS_SERVICE_PORT",
        "WS_SERVICE_PORT_HTTP",
        "WS_PORT",
        "WS_PORT_3002_TCP_ADDR",
        "KAFKA_SERVICE_HOST",
        "KAFKA_BROKERS_SERVICE_HOST",
        "KAFKA_PORT",
        "KAFKA_PORT_9092_TCP_PROTO",
        # Kafka's images
        "KAFKA_BROKER_ID",
        "KAFKA_LISTENERS",
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_HEAP_OPTS",
        "KAFKA_VERSION",
        # settings of the earlier server that there is nothing to do for
        "WS_MAX_GOROUTINES",
        "WS_ADDRESS_OF_NOBODY",
    ],
)
def test_other_names_under_our_prefixes_are_only_reported(name: str) -> None:
    """Others set them, so they do not stop the start; but an operator sees them."""
    assert load_settings({name: "x"}) == (Settings(), [name])


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LOGLEVEL", "LOG_DIR", "LOG_LEVELS_OF_OTHERS", "LOGNAME", "PORT", "ADDR", ""],
)
def test_names_that_are_not_ours_are_nothing_to_us(name: str) -> None:
    """Other programs' variables are neither reported nor taken for ours."""
    assert load_settings({name: "x"}) == (Settings(), [])


@given(st.dictionaries(st.text(st.characters(min_codepoint=65, max_codepoint=95)), st.text()))
def test_any_environment_is_read_or_told_what_is_wrong(environ: dict[str, str]) -> None:
    """No variable brings anything but settings or a SettingsError."""
    problems = [""]
    try:
        settings, _ = load_settings(environ)
    except SettingsError as error:
        problems = error.problems
    else:
        assert isinstance(settings, Settings)
    assert problems


def test_all_problems_are_told_at_once() -> None:
    """One start is enough to see every mistake: bad values in order, then bad names."""
    problems = problems_of(
        WS_MAX_CONNECTIONS="0",
        KAFKA_BROKERS="kafka",
        KAFKA_GROUP_ID="x",
        WS_MAX_CONECTIONS="5",
        WS_SOMETHING_ELSE="1",
        WS_COMMAND_BURST="10",
    )
    assert [re.split(r"[:=]", problem)[0] for problem in problems] == [
        "KAFKA_BROKERS",
        "WS_MAX_CONNECTIONS",
        "KAFKA_GROUP_ID",
        "WS_MAX_CONECTIONS",
    ]


def test_several_unknown_names_are_reported_in_order() -> None:
    """One warning can list them."""
    environ = {"WS_ZEBRA": "", "KAFKA_ZEBRA": "1", "WS_ANT": "2"}
    _, unknown = load_settings(environ)
    assert unknown == ["KAFKA_ZEBRA", "WS_ANT", "WS_ZEBRA"]


def test_no_setting_is_a_near_miss_of_another() -> None:
    """All of them can be set at once, as an example of each setting does."""
    environ = {name: setting.default for name, (_, setting) in SETTINGS.items()}
    assert load_settings(environ) == (Settings(), [])
