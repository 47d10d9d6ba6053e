"""Settings are read or the start is stopped; what is meant for us is never ignored in silence."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
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
    """What a setting is when its variable is set to `text`."""
    settings, unknown = load_settings({name: text} | BESIDE.get((name, text.upper()), {}))
    assert unknown == []
    return getattr(settings, SETTINGS[name][0])


def test_every_setting_is_covered_by_a_test_of_its_values() -> None:
    """A new setting needs a line above or a test below."""
    others = {"KAFKA_BROKERS", "KAFKA_CONSUMER_GROUP", "WS_ADDR", "WS_OPS_ADDR", "WS_CATALOGUE"}
    others |= {"KAFKA_DEAD_LETTER_TOPIC", "KAFKA_SASL_USERNAME", "KAFKA_SASL_TOKEN_FILE"}
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


def test_without_variables_the_defaults_hold() -> None:
    """An empty environment is a good one, and the constructor's defaults are the same."""
    assert load_settings({}) == (Settings(), [])


def test_what_tells_about_the_inside_is_for_this_machine_only() -> None:
    """The ops port listens on loopback unless it is told otherwise."""
    assert ip_address(Settings().ws_ops_addr.host).is_loopback


@pytest.mark.parametrize("name", SETTINGS)
def test_a_default_can_be_written_out(name: str) -> None:
    """What the documentation shows as the default is read as the default."""
    field, setting = SETTINGS[name]
    assert value_of(name, setting.default) == getattr(Settings(), field)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_field_is_called_like_its_variable(name: str) -> None:
    """One name to look for in code, documentation and deployments."""
    field, setting = SETTINGS[name]
    assert field == name.lower()
    assert isinstance(setting, Setting)
    assert setting.help
    assert setting.allowed


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_a_variable_set_to_nothing_counts_as_not_set(name: str, text: str) -> None:
    """Compose files and charts set what nobody gave a value."""
    assert load_settings({name: text}) == (Settings(), [])


@pytest.mark.parametrize("name", RANGES)
def test_a_number_in_range_is_taken(name: str) -> None:
    """The ends of a range belong to it, and spaces around a value do not matter."""
    _, lowest, highest, _ = RANGES[name]
    for text in (lowest, highest):
        if text is not None:
            assert value_of(name, text) == float(text)
            assert value_of(name, f" {text}\n") == float(text)


@pytest.mark.parametrize("name", RANGES)
def test_a_number_out_of_range_stops_the_start(name: str) -> None:
    """The line names the setting, the value, and what is allowed, with its unit."""
    below, lowest, highest, above = RANGES[name]
    unit = SETTINGS[name][1].unit
    for text in (below, above, "-1e9", "many", "nan", "inf", "-inf", "1e999", "0x10", "1,5"):
        if text is None:
            continue
        problem = problem_of(**{name: text})
        assert problem.startswith(f"{name}={text}: allowed is ")
        allowed = problem.partition("allowed is ")[2]
        if name != "WS_PONG_TIMEOUT_SECONDS":
            assert re.search(rf"\b{re.escape(lowest)}\b", allowed)
        if highest is not None and name != "WS_PING_INTERVAL_SECONDS":
            assert re.search(rf"\b{re.escape(highest)}\b", allowed)
        assert allowed.endswith(f"({unit})")


@pytest.mark.parametrize("name", sorted(INTEGERS))
def test_a_count_is_no_fraction(name: str) -> None:
    """Half a connection is a mistake, and is not rounded."""
    assert "an integer" in problem_of(**{name: "2048.5"})


@pytest.mark.parametrize("name", ["WS_MAX_CONNECTIONS_PER_IP", "WS_CONNECT_RATE_PER_IP"])
def test_a_limit_of_an_address_that_is_not_set_is_not_0(name: str) -> None:
    """0 lifts it for everybody, also for public addresses."""
    assert getattr(Settings(), name.lower()) is None
    assert value_of(name, "0") == 0
    assert "not set: " in SETTINGS[name][1].help


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_its_words(name: str) -> None:
    """Upper and lower case are the same; the line has all words."""
    words = CHOICES[name]
    for word in words:
        for text in word, word.upper(), word.lower():
            assert value_of(name, text) == word
    for text in ("other", words[0] + "x", ",".join(words)):
        assert problem_of(**{name: text}) == f"{name}={text}: allowed is one of {', '.join(words)}"


@pytest.mark.parametrize(
    ("text", "brokers"),
    [
        ("kafka:9092", ("kafka:9092",)),
        ("a:1,b:65535", ("a:1", "b:65535")),
        (" a:9092 , b:9092, ", ("a:9092", "b:9092")),
        ("[::1]:9092", ("[::1]:9092",)),
    ],
)
def test_brokers_are_a_list(text: str, brokers: tuple[str, ...]) -> None:
    """Several are separated by commas."""
    assert value_of("KAFKA_BROKERS", text) == brokers


@pytest.mark.parametrize(
    "text",
    [
        "kafka",
        "kafka:",
        ":9092",
        "a:9092,b",
        "a:0",
        "a:65536",
        "a:x",
        ",",
        "a:9092;b:9092",
        "a:9092 b:9092",
        "PLAINTEXT://a:9092",
        "::1:9092",
    ],
)
def test_a_broker_without_a_host_or_port_stops_the_start(text: str) -> None:
    """A client library would find that out much later."""
    assert problem_of(KAFKA_BROKERS=text).startswith(f"KAFKA_BROKERS={text}: allowed is host:port")


@pytest.mark.parametrize("name", ["WS_ADDR", "WS_OPS_ADDR"])
@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":3002", Address("", 3002)),
        (":0", Address("", 0)),
        ("127.0.0.1:65535", Address("127.0.0.1", 65535)),
        ("localhost:80", Address("localhost", 80)),
        ("[::1]:3002", Address("::1", 3002)),
        ("[::]:3002", Address("::", 3002)),
    ],
)
def test_an_address_is_read_and_written_the_same(name: str, text: str, address: Address) -> None:
    """What the log says can be set again."""
    assert value_of(name, text) == address
    assert str(address) == text


@pytest.mark.parametrize("name", ["WS_ADDR", "WS_OPS_ADDR"])
@pytest.mark.parametrize(
    "text",
    [
        "3002",
        "localhost",
        ":",
        ":-1",
        ":65536",
        ":http",
        "host:3002/",
        "::1:3002",
        "http://host:3002",
        "a:3002,b:3002",
    ],
)
def test_what_is_no_address_stops_the_start(name: str, text: str) -> None:
    """The line says how one is written."""
    assert problem_of(**{name: text}) == (
        f"{name}={text}: allowed is host:port, or :port for every interface"
    )


def test_a_name_is_any_text() -> None:
    """Kafka allows nearly everything, for groups and for users."""
    assert value_of("KAFKA_CONSUMER_GROUP", "odin ws/blue") == "odin ws/blue"
    user = LOGIN | {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "odin ws/blue"}
    assert load_settings(user)[0].kafka_sasl_username == "odin ws/blue"


@pytest.mark.parametrize("name", ["CAFILE", "CERTFILE", "KEYFILE"])
def test_a_certificate_is_a_file_that_exists(name: str, tmp_path: Path) -> None:
    """A wrong path is told at the start, whatever the broker would say."""
    wrong = tmp_path / "none.pem"
    problem = problem_of(**{f"KAFKA_SSL_{name}": str(wrong)})
    assert problem.startswith(f"KAFKA_SSL_{name}={wrong}: allowed is the path of a file")


def test_a_topic_is_named_as_kafka_names_them() -> None:
    """The broker would reject any other, letter by letter."""
    for name in ("odin.dead_letters-2", "x" * 249):
        assert value_of("KAFKA_DEAD_LETTER_TOPIC", name) == name
    for name in ("x" * 250, "odin/dead", "dead letters", ".", "..", "tot\u00e9"):
        allowed = "allowed is the name of a topic, or nothing"
        problem = problem_of(KAFKA_DEAD_LETTER_TOPIC=name)
        assert problem == f"KAFKA_DEAD_LETTER_TOPIC={name}: {allowed}"


def test_a_token_may_be_written_later() -> None:
    """The program that renews it may start after us."""
    token = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_MECHANISM": "OAUTHBEARER"}
    settings, _ = load_settings(token | {"KAFKA_SASL_TOKEN_FILE": "/run/later"})
    assert settings.kafka_sasl_token_file == Path("/run/later")


def test_a_catalogue_is_a_file_that_exists(tmp_path: Path) -> None:
    """A wrong path is told at the start, a folder too."""
    file = tmp_path / "weather.toml"
    file.touch()
    assert value_of("WS_CATALOGUE", str(file)) == file
    for wrong in (tmp_path, tmp_path / "none.toml"):
        assert problem_of(WS_CATALOGUE=str(wrong)).startswith(f"WS_CATALOGUE={wrong}: allowed")


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("192.0.2.7", ["192.0.2.7/32"]),
        (" 10.0.0.0/8 , 2001:db8::/32,", ["10.0.0.0/8", "2001:db8::/32"]),
        ("::1", ["::1/128"]),
    ],
)
def test_trusted_proxies_are_networks(text: str, networks: list[str]) -> None:
    """An address alone is a network of one."""
    assert value_of("WS_TRUSTED_PROXIES", text) == tuple(map(ip_network, networks))


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0-10.0.0.9", "*"])
def test_what_is_no_network_stops_the_start(text: str) -> None:
    """A network that is half an address would trust more than was meant."""
    assert problem_of(WS_TRUSTED_PROXIES=text).startswith(
        f"WS_TRUSTED_PROXIES={text}: allowed is networks such as 10.0.0.0/8"
    )


def test_a_proxy_protocol_needs_trusted_proxies() -> None:
    """Nobody could connect."""
    (problem,) = problems_of(WS_PROXY_PROTOCOL="required")
    assert "needs WS_TRUSTED_PROXIES" in problem
    load_settings({"WS_PROXY_PROTOCOL": "required", "WS_TRUSTED_PROXIES": "10.0.0.0/8"})


@pytest.mark.parametrize("name", ["WS_TLS_CERT", "WS_TLS_KEY"])
def test_a_certificate_needs_its_key(name: str, tmp_path: Path) -> None:
    """A server that was meant to speak TLS does not start without."""
    file = tmp_path / "some.pem"
    file.touch()
    assert problem_of(**{name: str(file)}) == "WS_TLS_CERT and WS_TLS_KEY: one needs the other"
    assert problem_of(**{name: str(tmp_path / "none.pem")}).startswith(f"{name}=")
    settings, _ = load_settings({"WS_TLS_CERT": str(file), "WS_TLS_KEY": str(file)})
    assert settings.ws_tls_cert == settings.ws_tls_key == file


@pytest.mark.parametrize(("interval", "timeout"), [("30", "30"), ("80", ""), ("", "29.9")])
def test_a_pong_has_to_have_time(interval: str, timeout: str) -> None:
    """Two settings that are good alone and not together are both named."""
    (problem,) = problems_of(WS_PING_INTERVAL_SECONDS=interval, WS_PONG_TIMEOUT_SECONDS=timeout)
    assert problem.startswith(f"WS_PONG_TIMEOUT_SECONDS={timeout or '75'}: ")
    assert f"WS_PING_INTERVAL_SECONDS={interval or '30'}" in problem


def test_workers_and_a_group_do_not_go_together() -> None:
    """The line names both settings: a subscriber would get what its worker reads, by chance."""
    (problem,) = problems_of(WS_WORKERS="2", KAFKA_ASSIGNMENT="group")
    assert problem.startswith("KAFKA_ASSIGNMENT=group: must be all with WS_WORKERS=2")
    settings, _ = load_settings({"WS_WORKERS": "1", "KAFKA_ASSIGNMENT": "group"})
    assert settings.kafka_assignment == "group"


def test_settings_can_be_made_in_code() -> None:
    """By the names of their fields, for tests and for embedding; they do not change."""
    settings = Settings(ws_max_connections=5, ws_addr=Address("", 0))
    assert attrs.asdict(settings, recurse=False) == attrs.asdict(Settings(), recurse=False) | {
        "ws_max_connections": 5,
        "ws_addr": Address("", 0),
    }
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.ws_max_connections = 6  # type: ignore[misc]
    with pytest.raises(SettingsError):
        Settings(ws_ping_interval_seconds=80)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("odin-ws", ("odin-ws",)),
        (
            "Odin.Prod.svc, 10.0.0.7,[2001:db8::1],::1",
            ("odin.prod.svc", "10.0.0.7", "[2001:db8::1]", "::1"),
        ),
        ("*", ("*",)),
    ],
)
def test_ops_hosts_are_names_and_addresses(text: str, hosts: tuple[str, ...]) -> None:
    """In lower case, as they are compared."""
    assert value_of("WS_OPS_HOSTS", text) == hosts


@pytest.mark.parametrize("text", ["odin-ws:3003", "http://odin-ws", "*.example.com", "a b", "[x]"])
def test_ops_host_that_could_match_nothing_stops_the_start(text: str) -> None:
    """A port or a scheme would never be in what is compared."""
    assert problem_of(WS_OPS_HOSTS=text).startswith(f"WS_OPS_HOSTS={text}: allowed is names")
