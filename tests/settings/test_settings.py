"""Settings are read or stop the start; none of ours is ignored silently."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import attrs
import pytest

from odin_ws.address import Address
from odin_ws.settings import Setting, Settings, SettingsError, declared_settings, load_settings
from tests.settings.problems import problem_of, problems_of

SETTINGS = {setting.name: (field, setting) for field, setting in declared_settings()}

LOGIN = {"KAFKA_SASL_USERNAME": "odin", "KAFKA_SASL_PASSWORD": "horse"}

# For each setting of a range: its lowest and highest values, and those just beyond.
RANGES: dict[str, tuple[str, str, str | None, str | None]] = {
    # name: below, lowest, highest, above
    "KAFKA_FETCH_MAX_WAIT_SECONDS": ("0", "0.001", "30", "30.001"),
    "KAFKA_PROBE_SECONDS": ("0.09", "0.1", "60", "60.1"),
    "WS_MAX_CONNECTIONS": ("0", "1", None, None),
    "WS_MAX_KAFKA_RATE": ("-1", "0", None, None),
    "WS_MAX_BROADCAST_RATE": ("-1", "0", "1000", "1000.5"),
    "WS_MAX_RECORD_BYTES": ("1023", "1024", "16777216", "16777217"),
    "WS_MAX_SUBSCRIPTIONS": ("0", "1", "1000000", "1000001"),
    "WS_MAX_SUBSCRIPTION_BYTES": ("1023", "1024", "1073741824", "1073741825"),
    "WS_MAX_FILTERS": ("-1", "0", "100000", "100001"),
    "WS_MAX_FILTERS_PER_CONNECTION": ("-1", "0", "100000", "100001"),
    "WS_MAX_MESSAGE_BYTES": ("127", "128", "16777216", "16777217"),
    "WS_COMMAND_RATE": ("0", "0.1", "1000000", "1000001"),
    "WS_COMMAND_BURST": ("0", "1", "1000000", "1000001"),
    "WS_MAX_HEADER_BYTES": ("511", "512", "1048576", "1048577"),
    "WS_HANDSHAKE_TIMEOUT_SECONDS": ("0", "0.1", "60", "61"),
    "WS_MAX_CONNECTIONS_PER_IP": ("-1", "0", None, None),
    "WS_CONNECT_RATE": ("-1", "0", "1000000", "1000001"),
    "WS_CONNECT_RATE_PER_IP": ("-1", "0", "1000000", "1000001"),
    "WS_MAX_LOOP_DELAY_SECONDS": ("-1", "0", "60", "61"),
    "WS_MAX_FRAGMENTS": ("0", "1", "1000000", "1000001"),
    "WS_TLS_EXPIRY_WARNING_DAYS": ("-1", "0", "3650", "3651"),
    "WS_MESSAGE_TIMEOUT_SECONDS": ("0", "0.1", "3600", "3601"),
    "WS_MAX_PENDING_HANDSHAKES": ("0", "1", "1000000", "1000001"),
    "WS_SEND_QUEUE_BYTES": ("1023", "1024", "1073741824", "1073741825"),
    "WS_WRITE_TIMEOUT_SECONDS": ("0", "0.1", "3600", "3601"),
    "WS_CONFLATION_THRESHOLD_BYTES": ("-1", "0", "1073741824", "1073741825"),
    "WS_JWKS_INTERVAL_SECONDS": ("9", "10", "86400", "86401"),
    "WS_JWT_LEEWAY_SECONDS": ("-1", "0", "300", "301"),
    "WS_TOKEN_EXPIRY_NOTICE_SECONDS": ("-1", "0", "3600", "3601"),
    "WS_MAX_CONNECTIONS_PER_USER": ("-1", "0", None, None),
    "WS_HISTORY_BYTES": ("-1", "0", None, None),
    "WS_HISTORY_SECONDS": ("-1", "0", None, None),
    "WS_SNAPSHOT_BYTES": ("-1", "0", None, None),
    "WS_REPLAY_CONSUMERS": ("0", "1", "64", "65"),
    "WS_MAX_REPLAY_RECORDS": ("-1", "0", None, None),
    "WS_POSITIONS_INTERVAL_SECONDS": ("0", "0.1", "3600", "3601"),
    "WS_PING_INTERVAL_SECONDS": ("0", "0.1", "74", "3601"),
    "WS_PONG_TIMEOUT_SECONDS": ("0", "31", "7200", "7201"),
    "WS_CANARY_SECONDS": ("-1", "0", "3600", "3601"),
    "WS_WORKERS": ("0", "1", "256", "257"),
    "WS_DRAIN_DELAY_SECONDS": ("-0.1", "0", "600", "601"),
    "WS_DRAIN_TIMEOUT_SECONDS": ("0", "0.1", "3600", "3601"),
    "WS_CPU_LIMIT": ("-1", "0", "4096", "4097"),
    "WS_MEMORY_LIMIT": ("-1", "0", None, None),
}
CHOICES = {
    "KAFKA_ASSIGNMENT": ["all", "group"],
    "WS_COMPRESSION": ["shared", "off"],
    "WS_FORWARDED_HEADER": ["X-Forwarded-For", "Forwarded"],
    "WS_PROXY_PROTOCOL": ["off", "required"],
    "KAFKA_SECURITY_PROTOCOL": ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"],
    "KAFKA_SASL_MECHANISM": ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
    "LOG_LEVEL": ["debug", "info", "warning", "error"],
    "LOG_FORMAT": ["json", "text"],
}
# What a setting makes sense with, where that is not the default.
BESIDE = {
    ("WS_PROXY_PROTOCOL", "REQUIRED"): {"WS_TRUSTED_PROXIES": "::1"},
    ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"): LOGIN,
    ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"): LOGIN,
}
INTEGERS = {
    name for name, (field, _) in SETTINGS.items() if type(getattr(Settings(), field)) is int
} | {"WS_MAX_CONNECTIONS_PER_IP"}


def value_of(name: str, text: str) -> Any:
    """Return the value of a setting whose variable is `text`."""
    settings, unknown = load_settings({name: text} | BESIDE.get((name, text.upper()), {}))
    assert unknown == []
    return getattr(settings, SETTINGS[name][0])


def test_every_setting_has_a_test_of_its_values() -> None:
    """A new setting needs a line above or a test below."""
    others = {"KAFKA_BROKERS", "KAFKA_CONSUMER_GROUP", "WS_ADDR", "WS_OPS_ADDR", "WS_CATALOGUE"}
    others |= {
        "WS_RECORD_HEADERS",
        "KAFKA_DEAD_LETTER_TOPIC",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_TOKEN_FILE",
    }
    # tests/settings/test_kafka_security.py
    others |= {"KAFKA_SASL_TOKEN_URL", "KAFKA_SASL_CLIENT_ID", "KAFKA_SASL_SCOPE"}
    others |= {f"KAFKA_SSL_{file}" for file in ("CAFILE", "CERTFILE", "KEYFILE")}
    others |= {"WS_TLS_CERT", "WS_TLS_KEY", "WS_TRUSTED_PROXIES"}
    # tests/settings/test_auth.py
    others |= {"WS_AUTH", "WS_JWT_PUBLIC_KEY", "WS_JWKS", "WS_JWT_AUDIENCE", "WS_JWT_ISSUER"}
    others |= {
        "WS_TOKEN_IN_QUERY",
        "WS_PRIVATE_CATEGORIES",
        "WS_POLICY",
        "WS_ALLOWED_ORIGINS",
        "WS_OPS_HOSTS",
    }
    # tests/settings/test_secrets.py is about every secret there is.
    others |= {name for name, (_, setting) in SETTINGS.items() if setting.file_name}
    assert RANGES.keys() | CHOICES.keys() | others == SETTINGS.keys()


def test_empty_environment_gives_the_defaults() -> None:
    """The constructor's defaults are the same."""
    assert load_settings({}) == (Settings(), [])


def test_ops_port_listens_on_loopback_by_default() -> None:
    """The ops pages are internal."""
    assert ip_address(Settings().ws_ops_addr.host).is_loopback


@pytest.mark.parametrize("name", SETTINGS)
def test_documented_default_parses_to_the_default(name: str) -> None:
    """The default in the documentation is read as the default."""
    field, setting = SETTINGS[name]
    assert value_of(name, setting.default) == getattr(Settings(), field)


@pytest.mark.parametrize("name", SETTINGS)
def test_field_has_the_name_of_its_variable(name: str) -> None:
    """One name to search in code, documentation and deployments."""
    field, setting = SETTINGS[name]
    assert field == name.lower()
    assert isinstance(setting, Setting)
    assert setting.help
    assert setting.allowed


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_empty_variable_counts_as_unset(name: str, text: str) -> None:
    """Compose files and charts set variables without a value."""
    assert load_settings({name: text}) == (Settings(), [])


@pytest.mark.parametrize("name", RANGES)
def test_number_in_range_is_accepted(name: str) -> None:
    """Ranges are inclusive; spaces around a value are ignored."""
    _, lowest, highest, _ = RANGES[name]
    for text in (lowest, highest):
        if text is not None:
            assert value_of(name, text) == float(text)
            assert value_of(name, f" {text}\n") == float(text)


@pytest.mark.parametrize("name", RANGES)
def test_number_out_of_range_stops_the_start(name: str) -> None:
    """The line has the setting, the value, the range and the unit."""
    below, lowest, highest, above = RANGES[name]
    unit = SETTINGS[name][1].unit
    for text in (below, above, "-1e9", "many", "nan", "inf", "-inf", "1e999", "0x10", "1,5"):
        if text is None:
            continue
        problem = problem_of(**{name: text})
        assert problem.startswith(f"{name}={text}: must be ")
        allowed = problem.partition("must be ")[2]
        if name != "WS_PONG_TIMEOUT_SECONDS":
            assert re.search(rf"\b{re.escape(lowest)}\b", allowed)
        if highest is not None and name != "WS_PING_INTERVAL_SECONDS":
            assert re.search(rf"\b{re.escape(highest)}\b", allowed)
        assert allowed.endswith(f"({unit})")


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_fraction_of_an_integer_setting_stops_the_start(name: str) -> None:
    """Half a connection is a mistake and is not rounded."""
    assert "an integer" in problem_of(**{name: "2048.5"})


@pytest.mark.parametrize("name", ["WS_MAX_CONNECTIONS_PER_IP", "WS_CONNECT_RATE_PER_IP"])
def test_unset_limit_per_address_differs_from_0(name: str) -> None:
    """0 removes the limit for everybody, public addresses included."""
    assert getattr(Settings(), name.lower()) is None
    assert value_of(name, "0") == 0
    assert "default: " in SETTINGS[name][1].help


@pytest.mark.parametrize("name", CHOICES)
def test_choice_is_one_of_its_words_in_any_case(name: str) -> None:
    """The line lists all words."""
    words = CHOICES[name]
    for word in words:
        for text in word, word.upper(), word.lower():
            assert value_of(name, text) == word
    for text in ("other", words[0] + "x", ",".join(words)):
        assert problem_of(**{name: text}) == f"{name}={text}: must be one of {', '.join(words)}"


def test_kafka_names_are_any_text() -> None:
    """Kafka allows nearly any name for groups and users."""
    assert value_of("KAFKA_CONSUMER_GROUP", "odin ws/blue") == "odin ws/blue"
    user = LOGIN | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "odin ws/blue"}
    assert load_settings(user)[0].kafka_sasl_username == "odin ws/blue"


@pytest.mark.parametrize("name", ["CAFILE", "CERTFILE", "KEYFILE"])
def test_missing_certificate_stops_the_start(name: str, tmp_path: Path) -> None:
    """A wrong path is reported at the start."""
    wrong = tmp_path / "none.pem"
    problem = problem_of(**{f"KAFKA_SSL_{name}": str(wrong)})
    assert problem.startswith(f"KAFKA_SSL_{name}={wrong}: must be the path of an existing file")


def test_dead_letter_topic_follows_kafka_rules() -> None:
    """The broker would reject any other name."""
    for name in ("odin.dead_letters-2", "x" * 249):
        assert value_of("KAFKA_DEAD_LETTER_TOPIC", name) == name
    for name in ("x" * 250, "odin/dead", "dead letters", ".", "..", "tot\u00e9"):
        allowed = "must be the name of a topic, or nothing"
        problem = problem_of(KAFKA_DEAD_LETTER_TOPIC=name)
        assert problem == f"KAFKA_DEAD_LETTER_TOPIC={name}: {allowed}"


def test_record_headers_are_a_list_of_names() -> None:
    """Each once, as written: Kafka tells upper and lower case apart. Each costs every record."""
    names = ("traceparent", "Tenant id")
    assert value_of("WS_RECORD_HEADERS", " traceparent, Tenant id,,traceparent") == names
    assert len(Settings(ws_record_headers=names).ws_record_headers) == 2
    several = ",".join(map(str, range(17)))
    problem = problem_of(WS_RECORD_HEADERS=several)
    assert problem.startswith(f"WS_RECORD_HEADERS={several}: must be at most 16 names")


def test_token_file_may_be_missing_at_start() -> None:
    """The program that renews the token may start later."""
    token = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}
    settings, _ = load_settings(token | {"KAFKA_SASL_TOKEN_FILE": "/run/later"})
    assert settings.kafka_sasl_token_file == Path("/run/later")


def test_missing_catalogue_stops_the_start(tmp_path: Path) -> None:
    """A wrong path or a directory is reported at the start."""
    file = tmp_path / "weather.toml"
    file.touch()
    assert value_of("WS_CATALOGUE", str(file)) == file
    for wrong in (tmp_path, tmp_path / "none.toml"):
        assert problem_of(WS_CATALOGUE=str(wrong)).startswith(
            f"WS_CATALOGUE={wrong}: must be the path"
        )


@pytest.mark.parametrize("name", ["WS_TLS_CERT", "WS_TLS_KEY"])
def test_certificate_without_key_stops_the_start(name: str, tmp_path: Path) -> None:
    """A server that is meant to use TLS does not start without."""
    file = tmp_path / "some.pem"
    file.touch()
    assert problem_of(**{name: str(file)}) == "WS_TLS_CERT and WS_TLS_KEY: set both or neither"
    assert problem_of(**{name: str(tmp_path / "none.pem")}).startswith(f"{name}=")
    settings, _ = load_settings({"WS_TLS_CERT": str(file), "WS_TLS_KEY": str(file)})
    assert settings.ws_tls_cert == settings.ws_tls_key == file


@pytest.mark.parametrize(("interval", "timeout"), [("30", "30"), ("80", ""), ("", "29.9")])
def test_pong_timeout_below_ping_interval_stops_the_start(interval: str, timeout: str) -> None:
    """The line names both settings."""
    (problem,) = problems_of(WS_PING_INTERVAL_SECONDS=interval, WS_PONG_TIMEOUT_SECONDS=timeout)
    assert problem.startswith(f"WS_PONG_TIMEOUT_SECONDS={timeout or '75'}: ")
    assert f"WS_PING_INTERVAL_SECONDS={interval or '30'}" in problem


def test_workers_with_a_consumer_group_stop_the_start() -> None:
    """The line names both settings: a subscriber would get the partitions of a random worker."""
    (problem,) = problems_of(WS_WORKERS="2", KAFKA_ASSIGNMENT="group")
    assert problem.startswith("KAFKA_ASSIGNMENT=group: must be all with WS_WORKERS=2")
    settings, _ = load_settings({"WS_WORKERS": "1", "KAFKA_ASSIGNMENT": "group"})
    assert settings.kafka_assignment == "group"


def test_settings_constructor_takes_field_names() -> None:
    """For tests and embedding; settings are immutable."""
    settings = Settings(ws_max_connections=5, ws_addr=Address("", 0))
    assert attrs.asdict(settings, recurse=False) == attrs.asdict(Settings(), recurse=False) | {
        "ws_max_connections": 5,
        "ws_addr": Address("", 0),
    }
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.ws_max_connections = 6  # type: ignore[misc]
    with pytest.raises(SettingsError):
        Settings(ws_ping_interval_seconds=80)
