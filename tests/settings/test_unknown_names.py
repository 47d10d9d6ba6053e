"""Misspelt settings stop the start; names of other programs are ignored."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odin_ws.settings import Settings, SettingsError, declared_settings, load_settings
from odin_ws.settings.former_names import FORMER_NAMES
from odin_ws.settings.unknown_names import NEIGHBOURS
from tests.settings.problems import problem_of, problems_of

SETTINGS = {setting.name: (field, setting) for field, setting in declared_settings()}


def near_misses(name: str) -> Iterator[str]:
    """Return a name with one letter missing, doubled or replaced, or two letters swapped."""
    # A short name with another prefix is anybody's; see the test of names that are not ours.
    short = name.startswith("LOG_") or name in {"WS_ADDR", "WS_AUTH", "WS_JWKS"}
    start = name.index("_") + 1 if short else 0
    for at in range(start, len(name)):
        yield name[:at] + name[at + 1 :]
        yield name[:at] + name[at] + name[at:]
        yield name[:at] + "Q" + name[at + 1 :]
        yield name[:at] + name[at + 1 : at + 2] + name[at] + name[at + 2 :]


FILE_NAMES = {setting.file_name for _, setting in SETTINGS.values() if setting.file_name}


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() | FILE_NAMES))
def test_misspelt_name_stops_the_start(name: str) -> None:
    """One typo in any name, `_FILE` names included, is reported with the intended name."""
    missed = sorted(set(near_misses(name)) - SETTINGS.keys() - FILE_NAMES)
    problems = problems_of(**dict.fromkeys(missed, "1"))
    assert problems == [f"{miss}: unknown setting; did you mean {name}?" for miss in missed]


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
def test_ineffective_names_of_the_original_stop_the_start(name: str, meant: str) -> None:
    """A name that a deployment set in vain is reported, whatever its value."""
    assert problem_of(**{name: "x"}) == f"{name}: unknown setting; did you mean {meant}?"
    assert problem_of(**{name: ""}) == f"{name}: unknown setting; did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WS_TLS_CERTIFICATE_PATH", "WS_TLS_CERT"),
        ("WS_SSL_CERT", "WS_TLS_CERT"),
        ("WS_KEY", "WS_TLS_KEY"),
        ("WS_CORS_ALLOWED", "WS_ALLOWED_ORIGINS"),
        ("WS_AUTH_ENABLED", "WS_AUTH"),
        ("WS_AUHT", "WS_AUTH"),
        ("WS_AUTHORIZATION", "WS_AUTH"),
        ("WS_API_TOKEN", "WS_OPS_TOKEN"),
        ("WS_JWT_ISS", "WS_JWT_ISSUER"),
        ("WS_JWT_ALGORITHMS", "WS_JWT_SECRET"),
        ("WS_JWKS_URL", "WS_JWKS"),
        ("WS_REAL_IP_PROXY", "WS_TRUSTED_PROXIES"),
        ("WS_TRUSTED_PROXY_CIDRS", "WS_TRUSTED_PROXIES"),
        ("KAFKA_SASL_JAAS_CONFIG", "KAFKA_SASL_PASSWORD"),
        ("KAFKA_SASL_ENABLED_MECHANISMS", "KAFKA_SASL_MECHANISM"),
        ("KAFKA_SSL_CA_LOCATION", "KAFKA_SSL_CAFILE"),
        ("KAFKA_TLS_ENABLED", "KAFKA_SSL_CAFILE"),
        ("KAFKA_SSL_KEYSTORE_LOCATION", "KAFKA_SSL_KEYFILE"),
        ("KAFKA_PASSWORD", "KAFKA_SASL_PASSWORD"),
        ("ws_ssl_cert", "WS_TLS_CERT"),
        ("WS_HTTPS", "WS_TLS_CERT"),
        ("WS_WSS_ONLY", "WS_TLS_CERT"),
        ("WS_SECURE_MODE", "WS_TLS_CERT"),
        ("WS_ENCRYPTION", "WS_TLS_CERT"),
        ("WS_POLICIES", "WS_POLICY"),
        ("WS_POLICY_FILES", "WS_POLICY"),
        ("WS_ACL_RULES", "WS_POLICY"),
        ("WS_AUDIENCE", "WS_JWT_AUDIENCE"),
        ("WS_TRUSTED_ISSUERS", "WS_JWT_ISSUER"),
        ("WS_REQUIRE_LOGIN", "WS_AUTH"),
        ("WS_BEARER", "WS_AUTH"),
        ("WS_ALLOWED_HOSTS", "WS_OPS_HOSTS"),
        ("WS_CLIENT_CA", "WS_AUTH"),
        ("KAFKA_CA", "KAFKA_SSL_CAFILE"),
        ("KAFKA_SECURITY", "KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_unknown_name_about_security_stops_the_start(name: str, meant: str) -> None:
    """The server would start unprotected otherwise; the line names the setting or the choice."""
    assert re.match(rf"{name}: unknown setting; .*\b{meant}\b", problem_of(**{name: "x"}))


WORDS = ["TLS", "SSL", "CERT", "KEY", "AUTH", "TOKEN", "JWT", "JWKS", "ORIGIN", "SASL", "PROXY"]


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("prefix", ["WS", "KAFKA"])
def test_security_word_anywhere_in_a_name_stops_the_start(prefix: str, word: str) -> None:
    """Names under our prefixes with such a word must be settings."""
    for name in (f"{prefix}_{word}_QUUX", f"{prefix}_QUUX_{word}", f"{prefix}_MY{word}S_QUUX"):
        problem = problem_of(**{name: "x"})
        assert problem.startswith(f"{name}: unknown setting; ")
        assert any(known in problem for known in SETTINGS)


@pytest.mark.parametrize(
    "name", sorted(SETTINGS.keys() - {n.removesuffix("_FILE") for n in FILE_NAMES})
)
def test_file_name_of_a_non_secret_stops_the_start(name: str) -> None:
    """WS_TLS_CERT_FILE means WS_TLS_CERT and would be ignored."""
    assert problem_of(**{f"{name}_FILE": "/etc/x"}) == (
        f"{name}_FILE: unknown setting; did you mean {name}? Only secrets have a _FILE name"
    )


@pytest.mark.parametrize(
    ("name", "value", "suggestion"),
    [
        ("WS_PORT", "8080", "did you mean WS_ADDR?"),
        ("WS_PORT", ":8080", "did you mean WS_ADDR?"),
        ("WS_HOST", "0.0.0.0", "did you mean WS_ADDR?"),  # noqa: S104 -- a value
        ("WS_PATH", "/socket", "subscribers connect at the path /ws, which cannot be set"),
        ("WS_METRICS_PORT", "9090", "did you mean WS_OPS_ADDR?"),
        ("WS_MAX_CLIENTS", "5", "did you mean WS_MAX_CONNECTIONS?"),
        ("WS_HEARTBEAT_INTERVAL", "5", "did you mean WS_PING_INTERVAL_SECONDS?"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092", "did you mean KAFKA_BROKERS?"),
        ("KAFKA_HOST", "kafka", "did you mean KAFKA_BROKERS?"),
        ("KAFKA_PORT", "9092", "did you mean KAFKA_BROKERS?"),
        ("KAFKA_TOPICS", "a,b", "did you mean WS_CATALOGUE?"),
        ("KAFKA_USERNAME", "odin", "did you mean KAFKA_SASL_USERNAME?"),
    ],
)
def test_name_of_another_server_stops_the_start(name: str, value: str, suggestion: str) -> None:
    """The line has our name of the setting."""
    assert problem_of(**{name: value}) == f"{name}: unknown setting; {suggestion}"


def test_names_of_other_servers_map_to_existing_settings() -> None:
    """None of them is a setting itself."""
    assert set(NEIGHBOURS.values()) <= SETTINGS.keys()
    assert not NEIGHBOURS.keys() & (SETTINGS.keys() | FILE_NAMES)


SERVICES = (
    "ws",
    "kafka",
    "ws-auth",
    "ws-tls",
    "ws-jwt-secret",
    "ws-auht",
    "kafka-ssl",
    "kafka-key",
)


@pytest.mark.parametrize(
    "service", [*SERVICES, "ws-origins-proxy", "kafka-rest-proxy", "kafka-broker"]
)
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_kubernetes_service_link_never_stops_the_start(service: str, protocol: str) -> None:
    """A cluster sets such variables for every service."""
    name = service.replace("-", "_").upper()
    url = f"{protocol}://10.0.0.1:443"
    port = f"{name}_PORT_443_{protocol.upper()}"
    links = {
        f"{name}_SERVICE_HOST": "10.0.0.1",
        f"{name}_SERVICE_PORT": "443",
        f"{name}_SERVICE_PORT_HTTPS_AUTH": "443",
        f"{name}_PORT": url,
        port: url,
        f"{port}_PROTO": protocol,
        f"{port}_PORT": "443",
        f"{port}_ADDR": "10.0.0.1",
    }
    assert load_settings(links) == (Settings(), sorted(links))


@pytest.mark.parametrize(
    "name",
    [
        # Of the broker's image, from a file that sets the variables of both
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
        "KAFKA_INTER_BROKER_LISTENER_NAME",
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
def test_other_names_with_our_prefixes_are_a_warning(name: str) -> None:
    """Other programs set them, so they do not stop the start."""
    assert load_settings({name: "x"}) == (Settings(), [name])


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LOGLEVEL", "LOG_DIR", "LOG_LEVELS_OF_OTHERS", "LOGNAME", "PORT", "ADDR", ""],
)
def test_names_without_our_prefixes_are_ignored(name: str) -> None:
    """Other programs' variables are neither reported nor read."""
    assert load_settings({name: "x"}) == (Settings(), [])


@given(st.dictionaries(st.text(st.characters(min_codepoint=65, max_codepoint=95)), st.text()))
def test_any_environment_gives_settings_or_settings_error(environ: dict[str, str]) -> None:
    """No variable raises anything else."""
    problems = [""]
    try:
        settings, _ = load_settings(environ)
    except SettingsError as error:
        problems = error.problems
    else:
        assert isinstance(settings, Settings)
    assert problems


def test_all_problems_are_reported_at_once() -> None:
    """Invalid values come first, in order, then unknown names."""
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
    """All settings can be set at once."""
    environ = {name: setting.default for name, (_, setting) in SETTINGS.items()}
    assert load_settings(environ) == (Settings(), [])


@pytest.mark.parametrize(("former", "now"), FORMER_NAMES.items())
def test_former_name_stops_the_start_with_the_present_name(former: str, now: str) -> None:
    """Nothing reads the former name."""
    assert now in SETTINGS
    assert former not in SETTINGS
    assert problem_of(**{former: "1"}) == f"{former}: unknown setting; its name is {now} now"
