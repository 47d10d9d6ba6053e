"""A catalogue's file is checked on the way in, and what is wrong is said with its place."""

from __future__ import annotations

import re

import pytest

from odin_ws.catalogue import (
    CatalogueError,
    KeyFormat,
    ValueFormat,
    default_catalogue,
    load_catalogue,
)

WEATHER = """
[[topics]]
name = "stations.measured"
category = "measured"
events = ["RAIN", "WIND"]

[[topics]]
name = "stations.forecast"
category = "forecast"

[bundles]
EVERYTHING = ["measured", "forecast"]
"""


def test_another_domain_brings_its_own_catalogue() -> None:
    """Topics, categories, and bundles are the file's, and no others."""
    catalogue = load_catalogue(WEATHER)
    assert list(catalogue.topics) == ["stations.measured", "stations.forecast"]
    assert list(catalogue.categories) == ["measured", "forecast"]
    assert catalogue.event_types.keys() == {"RAIN", "WIND"}
    assert catalogue.topics["stations.forecast"].events == ()
    assert catalogue.expand_channel("oslo.EVERYTHING") == ("oslo.measured", "oslo.forecast")
    assert catalogue.expand_topic("stations.measured") == ("*.measured",)


def test_topic_has_formats_of_key_and_value() -> None:
    """Keys as text and values as JSON, unless the file says another way."""
    text = WEATHER.replace(
        'category = "forecast"',
        'category = "forecast"\nkey = "confluent"\nvalue = "confluent-json"',
    )
    plain, other = load_catalogue(text).topics.values()
    assert (plain.key, plain.value) == (KeyFormat.TEXT, ValueFormat.JSON)
    assert (other.key, other.value) == (KeyFormat.CONFLUENT, ValueFormat.CONFLUENT_JSON)
    text = WEATHER.replace('category = "forecast"', 'category = "forecast"\nkey = "json"')
    assert load_catalogue(text).topics["stations.forecast"].key is KeyFormat.JSON


def test_a_catalogue_may_be_one_topic() -> None:
    """Bundles and events may be left out."""
    catalogue = load_catalogue('[[topics]]\nname = "t"\ncategory = "c"\n')
    assert catalogue.bundles == {}


def test_default_catalogue_is_loaded_once() -> None:
    """Each call returns the same object, so comparisons are by identity and loading costs once."""
    assert default_catalogue() is default_catalogue()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[bundles]", "[bundles", "not TOML: .*line 11"),
        ('name = "stations.measured"', "name = 1", r"topics\[0\]\.name: must be a string, not 1"),
        ('name = "stations.measured"', 'name = ""', r"topics\[0\]\.name: must be a string, not ''"),
        ("[bundles]", "[packages]", "packages: unknown key packages; allowed: .*bundles"),
        (
            "events =",
            "event_types =",
            r"topics\[0\]\.event_types: unknown key event_types; allowed: .*events",
        ),
        ('name = "stations.measured"', "", r"topics\[0\]\.name: is missing: must be a string"),
        (
            "stations.measured",
            "stations measured",
            r"topics\[0\]\.name: 'stations measured': Kafka allows 1 to 249 of letters",
        ),
        ('category = "forecast"', "", r"topics\[1\]\.category: is missing: must be a string"),
        (
            'category = "forecast"',
            "category = 7",
            r"topics\[1\]\.category: must be a string, not 7",
        ),
        ('category = "forecast"', 'category = "a.b"', r"topics\[1\]\.category: 'a\.b' .* dot"),
        ('category = "forecast"', 'category = "a*"', r"topics\[1\]\.category: 'a\*' .* \*"),
        (
            '["RAIN", "WIND"]',
            '"RAIN"',
            r"topics\[0\]\.events: must be a list of strings, not 'RAIN'",
        ),
        ('["RAIN", "WIND"]', '["RAIN", 1]', r"topics\[0\]\.events: must be a string, not 1"),
        (
            '["RAIN", "WIND"]',
            '["RAIN", "RAIN"]',
            r"topics\[0\]\.events: duplicate event type: RAIN",
        ),
        (
            '"stations.forecast"',
            '"stations.measured"',
            r"topics\[1\]\.name: duplicate topic name: stations\.measured",
        ),
        (
            'category = "forecast"',
            'category = "measured"',
            r"topics\[1\]\.category: duplicate category: measured",
        ),
        (
            '["measured", "forecast"]',
            '["past"]',
            "bundles.EVERYTHING: unknown category past; allowed: forecast, measured",
        ),
        ('["measured", "forecast"]', "[]", "bundles.EVERYTHING: must have at least one category"),
        ('["measured", "forecast"]', '"measured"', "bundles.EVERYTHING: must be a list of strings"),
        ('["measured", "forecast"]', "[1]", "bundles.EVERYTHING: must be a string, not 1"),
        ("EVERYTHING", '"A.B"', r"bundles\.A\.B: 'A\.B' must not contain a dot"),
        ("EVERYTHING", '"*"', r"bundles\.\*: '\*' must not contain a dot or \*"),
        (
            'category = "measured"',
            'category = "measured"\nkey = "avro"',
            r"topics\[0\]\.key \(.*\): must be one of text, json, confluent, not 'avro'$",
        ),
        (
            'category = "forecast"',
            'category = "forecast"\nkey = ["json"]',
            r"topics\[1\]\.key \(stations\.forecast\): must be one of .*, not \['json'\]$",
        ),
        (
            'category = "forecast"',
            'category = "forecast"\nvalue = "avro"',
            r"topics\[1\]\.value \(.*\): must be one of json, confluent-json, not 'avro'$",
        ),
        (
            'category = "forecast"',
            'category = "forecast"\nvalue = 1',
            r"topics\[1\]\.value \(stations\.forecast\): must be one of .*, not 1$",
        ),
        ("EVERYTHING", "measured", "bundles.measured: is also the name of a category"),
    ],
)
def test_error_is_reported_with_its_location(old: str, new: str, message: str) -> None:
    """An operator finds the line by what is said, before the server serves anything wrong."""
    assert WEATHER.count(old) >= 1
    with pytest.raises(CatalogueError, match=f"^{message}"):
        load_catalogue(WEATHER.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "topics: must have at least one [[topics]]"),
        ("topics = []", "topics: must have at least one [[topics]]"),
        ("topics = 1", "topics: must have at least one [[topics]]"),
        ('[topics]\nname = "t"\n', "topics: must have at least one [[topics]]"),
        ("topics = [1]", "topics[0]: must be a table"),
        ('bundles = 1\n[[topics]]\nname = "t"\ncategory = "c"\n', "bundles: must be a table"),
    ],
)
def test_file_without_topics_is_rejected_with_what_is_required(text: str, message: str) -> None:
    """There is no catalogue without a topic."""
    with pytest.raises(CatalogueError, match=f"^{re.escape(message)}$"):
        load_catalogue(text)
